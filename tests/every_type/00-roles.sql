-- Roles are the cluster's: made once, kept between databases.
DO $$
DECLARE role text;
BEGIN
  FOREACH role IN ARRAY ARRAY['zoo_owner', 'zoo_reader', 'zoo_group', 'zoo "odd" rôle', 'Zoo_Capital'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
      EXECUTE format('CREATE ROLE %I', role);
    END IF;
  END LOOP;
END $$;
GRANT zoo_group TO zoo_reader;
ALTER ROLE zoo_reader SET work_mem TO '7MB';
ALTER ROLE zoo_reader SET search_path TO 'zoo, "odd"', public;
COMMENT ON ROLE zoo_group IS 'a group; with ''quotes'' and -- no comment';
CREATE SCHEMA zoo AUTHORIZATION zoo_owner;
COMMENT ON SCHEMA zoo IS E'animals \\ and \n lines';
GRANT USAGE ON SCHEMA zoo TO zoo_reader, "zoo ""odd"" rôle";
ALTER DEFAULT PRIVILEGES FOR ROLE zoo_owner IN SCHEMA zoo GRANT SELECT ON TABLES TO zoo_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE zoo_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
