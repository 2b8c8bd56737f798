-- What belongs to a database itself and is not copied with a template.
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET work_mem TO ''6MB''', current_database());
  EXECUTE format('ALTER DATABASE %I SET search_path TO zoo, "$user", public', current_database());
  EXECUTE format('ALTER DATABASE %I SET datestyle TO ''German, DMY''', current_database());
  EXECUTE format('ALTER DATABASE %I SET intervalstyle TO ''sql_standard''', current_database());
  EXECUTE format('ALTER DATABASE %I SET timezone TO ''Asia/Kathmandu''', current_database());
  EXECUTE format('ALTER DATABASE %I SET bytea_output TO ''escape''', current_database());
  EXECUTE format('ALTER DATABASE %I SET extra_float_digits TO ''-3''', current_database());
  EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only TO off', current_database());
  EXECUTE format('ALTER ROLE zoo_reader IN DATABASE %I SET work_mem TO ''5MB''', current_database());
  EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO zoo_reader WITH GRANT OPTION', current_database());
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('COMMENT ON DATABASE %I IS %L', current_database(), 'the zoo; it''s "odd"');
  EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 50', current_database());
END $$;
