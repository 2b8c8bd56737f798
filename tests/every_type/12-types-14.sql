-- since: 14
-- Types that came with multiranges, and infinite numerics.
CREATE TYPE zoo.word_range AS RANGE (subtype = text, collation = "C", multirange_type_name = zoo.word_multirange);
CREATE TABLE zoo.multiranges (
  id int PRIMARY KEY, i int4multirange, n nummultirange, z tstzmultirange, w zoo.word_multirange
);
INSERT INTO zoo.multiranges VALUES
  (1, '{}', '{}', '{}', '{["",a),[b,c]}'),
  (2, '{(,1),[5,7),[9,)}', '{[0.1,0.2],(0.3,NaN]}', '{["2026-01-01 00:00+00","2026-01-02 00:00+00")}', '{}'),
  (3, '{[1,2),[2,3)}', '{[Infinity,Infinity]}', NULL, NULL);
CREATE TABLE zoo.infinite (id int PRIMARY KEY, exact numeric, many numeric[]);
INSERT INTO zoo.infinite VALUES (1, 'Infinity', '{{1.5,NaN},{NULL,-Infinity}}'), (2, '-Infinity', NULL);
