-- needs: hstore, citext, btree_gist, postgres_fdw, file_fdw
CREATE SCHEMA extensions;
CREATE EXTENSION hstore SCHEMA extensions;
CREATE EXTENSION citext SCHEMA public;
CREATE EXTENSION btree_gist SCHEMA extensions;
CREATE EXTENSION file_fdw;
CREATE EXTENSION postgres_fdw;
CREATE TABLE zoo.hstores (id int PRIMARY KEY, h extensions.hstore);
INSERT INTO zoo.hstores VALUES (1, 'a=>1, "b c"=>NULL, "q\"uote"=>"\\"'), (2, '');
CREATE TABLE zoo.folded (name public.citext PRIMARY KEY);
INSERT INTO zoo.folded VALUES ('MiXed'), ('straße');
CREATE TABLE zoo.to_folded (id int PRIMARY KEY, name public.citext REFERENCES zoo.folded);
INSERT INTO zoo.to_folded VALUES (1, 'mixed'), (2, 'STRAße'), (3, NULL);
CREATE TABLE zoo.rooms (room int, during tsrange, EXCLUDE USING gist (room WITH =, during WITH &&));
INSERT INTO zoo.rooms VALUES (1, '[2026-01-01,2026-01-02)'), (2, '[2026-01-01,2026-01-02)');
CREATE SERVER zoo_files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE zoo.passwd (line text) SERVER zoo_files OPTIONS (filename '/etc/passwd', format 'text', delimiter E'\x01');
