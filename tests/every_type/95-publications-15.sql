-- since: 15
-- Publications of chosen columns and rows, and of all tables of a schema.
CREATE PUBLICATION zoo_part FOR TABLE zoo.mixed (id) WHERE (id < 10), zoo.hen;
CREATE PUBLICATION zoo_schema FOR TABLES IN SCHEMA zoo;
