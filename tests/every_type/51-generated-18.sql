-- since: 18
CREATE TABLE zoo.virtual (id int PRIMARY KEY, a int, v int GENERATED ALWAYS AS (a + 1) VIRTUAL, s int GENERATED ALWAYS AS (a + 2) STORED);
INSERT INTO zoo.virtual (id, a) VALUES (1, 1), (2, NULL);
CREATE TABLE zoo.named_not_null (a int CONSTRAINT must NOT NULL, b int, CONSTRAINT b_there NOT NULL b NO INHERIT);
INSERT INTO zoo.named_not_null VALUES (1, 2);
CREATE TABLE zoo.not_enforced (a int CHECK (a > 0) NOT ENFORCED);
INSERT INTO zoo.not_enforced VALUES (-1);
