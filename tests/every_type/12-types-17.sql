-- since: 17
CREATE TABLE zoo.endless (id int PRIMARY KEY, span interval);
INSERT INTO zoo.endless VALUES (1, 'infinity'), (2, '-infinity');
