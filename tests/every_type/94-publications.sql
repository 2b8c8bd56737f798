-- Publications, event triggers, and what concerns the whole database: last, because they would see the rest being made.
CREATE PUBLICATION zoo_everything FOR ALL TABLES WITH (publish = 'insert');
CREATE PUBLICATION zoo_some FOR TABLE zoo.mixed, zoo.hen;
CREATE FUNCTION zoo.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; END $$;
CREATE EVENT TRIGGER zoo_watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION zoo.watch();
CREATE EVENT TRIGGER zoo_off ON sql_drop EXECUTE FUNCTION zoo.watch();
ALTER EVENT TRIGGER zoo_off DISABLE;
COMMENT ON TABLE zoo.mixed IS 'mixed widths';
COMMENT ON CONSTRAINT hen_egg ON zoo.hen IS 'in circles';
COMMENT ON PUBLICATION zoo_some IS 'some';
GRANT CREATE, USAGE ON SCHEMA public TO zoo_group;
GRANT SELECT ON ALL TABLES IN SCHEMA zoo TO zoo_group;
REVOKE ALL ON zoo.lines FROM zoo_group;
GRANT USAGE ON TYPE zoo.mood TO zoo_reader;
GRANT SELECT, USAGE ON SEQUENCE zoo.cached TO zoo_reader;
