-- Every built-in type with its edge values.
CREATE TABLE zoo.numbers (
  id int PRIMARY KEY, small smallint, whole int, big bigint, exact numeric, scaled numeric(10, 2), single real,
  double double precision, cash money, flag boolean, object oid, transaction xid8, place tid, lsn pg_lsn
);
INSERT INTO zoo.numbers VALUES
  (1, -32768, -2147483648, -9223372036854775808, 'NaN', 'NaN', 'NaN', 'NaN', '-92233720368547758.08', false, 0, '0', '(0,1)', '0/0'),
  (2, 32767, 2147483647, 9223372036854775807, 98765.43210, -99999999.99, 'Infinity', 'Infinity', '92233720368547758.07', true,
   4294967295, '18446744073709551615', '(4294967295,65535)', 'FFFFFFFF/FFFFFFFF'),
  (3, 0, 0, 0, 0.000, 0.00, '-Infinity', '-Infinity', '0', NULL, NULL, NULL, NULL, NULL),
  (4, NULL, NULL, NULL, 0.1, 0.10, 0.1, 0.1, '1,234.5', NULL, NULL, NULL, NULL, NULL),
  (5, 1, 1, 1, 1.000000, 1, '-0', '-0', NULL, NULL, NULL, NULL, NULL, NULL),
  (6, 1, 1, 1, repeat('9', 1000)::numeric + 0.123456789, 1, 3.4028235e38, 1.7976931348623157e308, NULL, NULL, NULL, NULL, NULL, NULL),
  (7, 1, 1, 1, ('0.' || repeat('0', 900) || '1')::numeric, 1, 1.17549435e-38, 5e-324, NULL, NULL, NULL, NULL, NULL, NULL),
  (8, 1, 1, 1, 1e131071, 1, 0.3333333333, 0.1::float8 + 0.2::float8, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE zoo.times (
  id int PRIMARY KEY, day date, clock time, zoned_clock timetz, moment timestamp, zoned timestamptz, span interval,
  short_span interval day to second(2), exact_clock time(0)
);
INSERT INTO zoo.times VALUES
  (1, '4713-01-01 BC', '00:00', '00:00+15:59', '4713-01-01 00:00 BC', '4713-01-02 00:00+00 BC', '-178000000 years', '1 day', '0:0'),
  (2, '5874897-12-31', '24:00', '24:00-15:59', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00', '178000000 years', '-1 day 2.25 seconds', '24:00'),
  (3, 'infinity', '23:59:60', '12:00+05:45', 'infinity', 'infinity', '1 mon -1 day +00:00:00.000001', NULL, NULL),
  (4, '-infinity', '12:34:56.789012', '12:00:00.5-03:30', '-infinity', '-infinity', '-1 year -2 mons +3 days -04:05:06.7', NULL, NULL),
  (5, '0001-01-01', NULL, NULL, '0001-01-01', '1999-12-31 23:59:59.5 Asia/Kathmandu', '0', NULL, NULL),
  (6, '0044-03-15 BC', NULL, NULL, '2026-03-29 02:30', '2026-10-25 02:30 Europe/Brussels', '1000 hours', NULL, NULL);

CREATE TABLE zoo.bits (id int PRIMARY KEY, bytes bytea, fixed bit(12), varying bit varying, "uuid" uuid);
INSERT INTO zoo.bits VALUES
  (1, '', B'000000000000', B'', '00000000-0000-0000-0000-000000000000'),
  (2, '\x00', B'101010101010', B'1', 'ffffffff-ffff-ffff-ffff-ffffffffffff'),
  (3, (SELECT string_agg(set_byte('\x00'::bytea, 0, n), ''::bytea ORDER BY n) FROM generate_series(0, 255) n), NULL, NULL, NULL),
  (4, '\x5c2e0a095c4e', NULL, repeat('10', 500)::varbit, NULL);

CREATE TABLE zoo.nets (id int PRIMARY KEY, host inet, net cidr, mac macaddr, mac8 macaddr8);
INSERT INTO zoo.nets VALUES
  (1, '0.0.0.0/0', '0.0.0.0/0', '00:00:00:00:00:00', '00:00:00:00:00:00:00:00'),
  (2, '::ffff:1.2.3.4', '2001:db8::/32', 'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff'),
  (3, 'fe80::1/64', '::/0', NULL, NULL), (4, '10.1.2.3/8', '10.0.0.0/8', NULL, NULL);

CREATE TABLE zoo.shapes (id int PRIMARY KEY, p point, l line, s lseg, b box, open path, closed path, g polygon, c circle);
INSERT INTO zoo.shapes VALUES
  (1, '(0,0)', '{1,-1,0}', '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '((0,0),(1,1),(2,0))', '<(0,0),0>'),
  (2, '(NaN,Infinity)', '{1e300,1e-300,0.1}', '[(-1e300,0.1),(1e300,-0.1)]', '(Infinity,1),(-Infinity,0)', '[(1e-300,1)]', '((1e-300,1))', '((0.1,0.2))', '<(0.1,0.2),1e300>');

CREATE TABLE zoo.documents (id int PRIMARY KEY, j json, b jsonb, p jsonpath, v tsvector, q tsquery);
INSERT INTO zoo.documents VALUES
  (1, '  {"a" :1, "a": 2}  ', '{"a": 1, "nested": [1, 2.50, null, true, "\u00e9\n\t\\"]}', '$.a[*] ? (@ > 1)', 'a:1A fat:2B,4C cat:5', 'fat & !cat:* <-> rat'),
  (2, 'null', 'null', 'strict $."key with \"quotes\""', '', ''),
  (3, '"\u0000"', '"\\u0000 \" \\."', NULL, $$'it''s' 'back\\slash':3 'new
line'$$, $$'it''s' | 'x y'$$),
  (4, '1e400', '1e400', NULL, to_tsvector('simple', repeat('wort ', 300)), NULL),
  (5, '[]', '{}', 'lax $', array_to_tsvector(ARRAY['a', 'b']), 'a <3> b');

CREATE TABLE zoo.ranges (
  id int PRIMARY KEY, i int4range, b int8range, n numrange, t tsrange, z tstzrange, d daterange
);
INSERT INTO zoo.ranges VALUES
  (1, 'empty', 'empty', 'empty', 'empty', 'empty', 'empty'),
  (2, '(,)', '[1,)', '(,1.5]', '["2026-01-01 00:00",infinity]', '(-infinity,infinity)', '[2026-01-01,)'),
  (3, '[1,1]', '[-9223372036854775808,0)', '[NaN,NaN]', NULL, NULL, '(2026-01-01,2026-01-03]');

CREATE TABLE zoo.arrays (id int PRIMARY KEY, n int[], t text[], m numeric[][], d date[], b bytea[], j jsonb[], boxes box[]);
INSERT INTO zoo.arrays VALUES
  (1, '{}', '{}', '{}', '{}', '{}', '{}', '{}'),
  (2, '{1,NULL,3}', ARRAY['', NULL, 'NULL', 'a,b', '{x}', '"q"', E'back\\slash', E'tab\tnew\nline', ' spaces '], '{{1.5,NaN},{NULL,-0.10}}', '{infinity,"0044-03-15 BC"}', ARRAY['\x00ff'::bytea, ''], ARRAY['{"a": "b,c"}'::jsonb], '{(1,1),(0,0);(2,2),(1,1)}'),
  (3, '[-2:0]={7,8,9}', '[0:1][2:3]={{a,b},{c,d}}', '{{{1},{2}},{{3},{4}}}', NULL, NULL, NULL, NULL);

CREATE TYPE zoo.mood AS ENUM ('sad', 'ok', 'very happy', 'it''s "odd"', E'back\\slash');
ALTER TYPE zoo.mood ADD VALUE 'worse' BEFORE 'sad';
CREATE DOMAIN zoo.positive AS int CHECK (VALUE > 0) DEFAULT 1;
CREATE DOMAIN zoo.required AS text NOT NULL CHECK (VALUE <> '');
CREATE DOMAIN zoo.positives AS zoo.positive[] CHECK (array_length(VALUE, 1) < 5);
CREATE TYPE zoo.inner_pair AS (a int, b text);
CREATE TYPE zoo.outer_pair AS (one zoo.inner_pair, many zoo.inner_pair[], mood zoo.mood, fine zoo.positive);
CREATE TYPE zoo.text_range AS RANGE (subtype = text, collation = "C");
COMMENT ON TYPE zoo.outer_pair IS 'pairs';
CREATE TABLE zoo.custom (
  id int PRIMARY KEY, mood zoo.mood, moods zoo.mood[], p zoo.positive, r zoo.required DEFAULT 'x', ps zoo.positives,
  pair zoo.inner_pair, nested zoo.outer_pair, tr zoo.text_range
);
INSERT INTO zoo.custom VALUES
  (1, 'worse', '{sad,"very happy",NULL}', 1, 'a', '{1,2}', '(1,x)', ROW(ROW(1, 'a "q" (b)'), ARRAY[ROW(2, E'tab\t,\\ ')::zoo.inner_pair, NULL], 'ok', 2), '[a,"b,c")'),
  (2, E'back\\slash', '{}', NULL, 'b', NULL, '(,)', ROW(NULL, '{}', NULL, NULL), 'empty'),
  (3, 'it''s "odd"', NULL, 7, E'\\.', '{}', '(,"")', NULL, '(,)');

CREATE TABLE zoo.system_types (
  id int PRIMARY KEY, c "char", n name, class regclass, type regtype, function regprocedure, role regrole, vector int2vector, oids oidvector,
  snapshot pg_snapshot, old_snapshot txid_snapshot, acl aclitem[], cursor refcursor, config regconfig, command cid, transaction xid
);
INSERT INTO zoo.system_types VALUES
  (1, 'x', 'short', 'pg_class', 'zoo.mood', 'pg_catalog.length(text)', 'zoo_owner', '1 -2 3', '1 4294967295', '10:20:10,14,15', '10:20:10,14,15', '{zoo_owner=arwd/zoo_owner,=r/zoo_owner}', 'cur', 'english', '1', '3'),
  (2, '', repeat('n', 63), NULL, 'integer[]', NULL, NULL, '', '', NULL, NULL, '{}', '', 'simple', NULL, NULL),
  (3, E'\\', E'\\.', NULL, NULL, NULL, '"zoo ""odd"" rôle"', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
