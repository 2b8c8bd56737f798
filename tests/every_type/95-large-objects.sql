-- Large objects: empty, small, of several pages, with holes; owners, privileges, comments.
SELECT lo_create(100001), lo_from_bytea(100002, '\x736d616c6c00ff'), lo_from_bytea(100003, decode(repeat('00ff5c0a', 100000), 'hex')), lo_create(100004);
SELECT lo_put(100004, 1000000, 'after a hole');
ALTER LARGE OBJECT 100002 OWNER TO zoo_owner;
ALTER LARGE OBJECT 100003 OWNER TO "zoo ""odd"" rôle";
GRANT SELECT ON LARGE OBJECT 100002 TO zoo_reader;
GRANT ALL ON LARGE OBJECT 100003 TO PUBLIC;
COMMENT ON LARGE OBJECT 100003 IS 'it''s large';
