-- Partitions by list, range and hash, with defaults and sub-partitions; inheritance.
CREATE TABLE zoo.by_list (kind text, id int, t text) PARTITION BY LIST (kind);
CREATE TABLE zoo.by_list_a PARTITION OF zoo.by_list FOR VALUES IN ('a', 'A');
CREATE TABLE zoo.by_list_null PARTITION OF zoo.by_list FOR VALUES IN (NULL);
CREATE TABLE zoo.by_list_rest PARTITION OF zoo.by_list DEFAULT PARTITION BY RANGE (id);
CREATE TABLE zoo.by_list_rest_low PARTITION OF zoo.by_list_rest FOR VALUES FROM (MINVALUE) TO (50);
CREATE TABLE zoo.by_list_rest_high PARTITION OF zoo.by_list_rest FOR VALUES FROM (50) TO (MAXVALUE);
INSERT INTO zoo.by_list SELECT (ARRAY['a', 'A', NULL, 'b', 'c'])[1 + n % 5], n, 'row ' || n FROM generate_series(1, 100) n;

CREATE TABLE zoo.by_range (at timestamptz NOT NULL, id int NOT NULL, t text, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
CREATE TABLE zoo.by_range_2025 PARTITION OF zoo.by_range FOR VALUES FROM ('2025-01-01 00:00+00') TO ('2026-01-01 00:00+00');
CREATE TABLE zoo.by_range_2026 (t text, dropped int, id int NOT NULL, at timestamptz NOT NULL);
ALTER TABLE zoo.by_range_2026 DROP COLUMN dropped;
ALTER TABLE zoo.by_range ATTACH PARTITION zoo.by_range_2026 FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2027-01-01 00:00+00');
CREATE TABLE zoo.by_range_default PARTITION OF zoo.by_range DEFAULT;
INSERT INTO zoo.by_range SELECT '2024-12-01 00:00+00'::timestamptz + n * interval '20 days', n, 'r' || n FROM generate_series(1, 60) n;
CREATE INDEX by_range_t ON zoo.by_range (t);

CREATE TABLE zoo.by_hash (id int PRIMARY KEY, t text) PARTITION BY HASH (id);
CREATE TABLE zoo.by_hash_0 PARTITION OF zoo.by_hash FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE zoo.by_hash_1 PARTITION OF zoo.by_hash FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE zoo.by_hash_2 PARTITION OF zoo.by_hash FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO zoo.by_hash SELECT n, 'h' || n FROM generate_series(1, 50) n;
CREATE TABLE zoo.to_hash (id int PRIMARY KEY, target int REFERENCES zoo.by_hash);
INSERT INTO zoo.to_hash SELECT n, n FROM generate_series(1, 50) n;
CREATE TABLE zoo.by_none (id int) PARTITION BY RANGE (id);

CREATE TABLE zoo.ancestor (id int PRIMARY KEY, t text);
CREATE TABLE zoo.other_ancestor (extra text DEFAULT 'e');
CREATE TABLE zoo.heir (own int) INHERITS (zoo.ancestor, zoo.other_ancestor);
CREATE TABLE zoo.grand_heir () INHERITS (zoo.heir);
INSERT INTO zoo.ancestor VALUES (1, 'ancestor');
INSERT INTO zoo.heir VALUES (2, 'heir', 'x', 3);
INSERT INTO zoo.grand_heir VALUES (4, 'grand', 'y', 5);
