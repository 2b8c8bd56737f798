-- Everything that COPY's text format must escape, and what must pass unchanged.
CREATE TABLE zoo.characters (id int PRIMARY KEY, t text, v varchar(10), c char(5));
INSERT INTO zoo.characters SELECT n, chr(n), chr(n) || 'x', chr(n) FROM generate_series(1, 255) n;
INSERT INTO zoo.characters (id, t)
SELECT 1000 + n, chr(n) FROM unnest(ARRAY[256, 1424, 8203, 8206, 8232, 55295, 57344, 65279, 65533, 65534, 65535, 65536, 128512, 131072, 1114111]) n;

CREATE TABLE zoo.lines (t text);
INSERT INTO zoo.lines VALUES
  ('\.'), ('\N'), (''), (NULL), (E'\\.\n'), (E'\n\\.\n'), (E'a\tb'), (E'a\nb'), (E'a\r\nb'), (E'\r'), (E'\b\f\v\a\e'), (E'\\'), (E'\\\\'),
  (E'\\n'), (E'\\x41'), (E'\\101'), ('"quoted"'), ('it''s'), (' leading'), ('trailing '), (E'\t'), (E'\n'), ('👩‍👩‍👧‍👦'), ('é'), ('é'),
  (E'\u202Egnp.exe'), ('ก็็็็็'), (repeat(E'\t\n\\', 10000)), ('--'), (';'), ('$$'), ('\\.');
CREATE TABLE zoo.two_texts (a text, b text);
INSERT INTO zoo.two_texts SELECT a.t, b.t FROM zoo.lines a, zoo.lines b WHERE length(coalesce(a.t, '')) < 5 AND length(coalesce(b.t, '')) < 5;
