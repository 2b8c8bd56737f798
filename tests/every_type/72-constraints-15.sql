-- since: 15
-- Nulls that equal each other.
CREATE TABLE zoo.couple (a int, b text, UNIQUE NULLS NOT DISTINCT (a, b));
INSERT INTO zoo.couple VALUES (1, 'x'), (2, NULL), (NULL, NULL);
