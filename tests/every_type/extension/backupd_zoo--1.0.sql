CREATE TABLE settings (name text PRIMARY KEY, value text, standard boolean DEFAULT false);
INSERT INTO settings VALUES ('shipped', 'with the extension', true);
CREATE TABLE internals (id int, t text);
CREATE TABLE all_rows (id int);
CREATE SEQUENCE counter;
SELECT pg_catalog.pg_extension_config_dump('settings', 'WHERE NOT standard');
SELECT pg_catalog.pg_extension_config_dump('all_rows', '');
SELECT pg_catalog.pg_extension_config_dump('counter', '');
