-- A foreign table needs no library to exist.
CREATE FOREIGN DATA WRAPPER zoo_wrapper OPTIONS (kind 'none');
CREATE SERVER zoo_server TYPE 'x' VERSION '1' FOREIGN DATA WRAPPER zoo_wrapper OPTIONS (host 'nowhere');
CREATE USER MAPPING FOR zoo_reader SERVER zoo_server OPTIONS (secret 'mapping');
CREATE FOREIGN TABLE zoo.far (id int NOT NULL, t text OPTIONS (column_name 'T')) SERVER zoo_server OPTIONS (file '/nowhere');
GRANT USAGE ON FOREIGN SERVER zoo_server TO zoo_reader;
