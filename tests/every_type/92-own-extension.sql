-- needs: backupd_zoo
CREATE EXTENSION backupd_zoo;
INSERT INTO backupd_zoo.settings VALUES ('mine', 'kept'), ('mine too', E'tab\t');
INSERT INTO backupd_zoo.internals VALUES (99, 'not kept: no configuration table');
INSERT INTO backupd_zoo.all_rows VALUES (1), (2);
SELECT nextval('backupd_zoo.counter') FROM generate_series(1, 5);
