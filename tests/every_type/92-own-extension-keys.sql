-- needs: backupd_keys
CREATE EXTENSION backupd_keys;
-- What refers to others is larger than they are: a restore begins with large tables.
INSERT INTO backupd_keys.parents SELECT n FROM generate_series(1, 20) n;
INSERT INTO backupd_keys.children SELECT n, n % 21, repeat('c', 100) FROM generate_series(1, 100) n;
INSERT INTO backupd_keys.grandchildren SELECT n, 1 + n % 100, repeat('g', 100) FROM generate_series(1, 500) n;
INSERT INTO backupd_keys.links SELECT n, nullif((n + 1) % 31, 0), repeat('l', 10) FROM generate_series(1, 30) n;
