-- Measurements in partitions, some of them with keys of their own, tenants in every key, and a table that inherits.
CREATE TABLE tenant (tenant_id int PRIMARY KEY, mark text);
CREATE TABLE device (tenant_id int NOT NULL REFERENCES tenant, device_id int, mark text,
  PRIMARY KEY (tenant_id, device_id));
CREATE TABLE sensor (tenant_id int NOT NULL, device_id int NOT NULL, sensor_id int, mark text,
  PRIMARY KEY (tenant_id, device_id, sensor_id), FOREIGN KEY (tenant_id, device_id) REFERENCES device);
CREATE TABLE reading (tenant_id int NOT NULL, device_id int NOT NULL, sensor_id int NOT NULL, at date NOT NULL,
  mark text, FOREIGN KEY (tenant_id, device_id, sensor_id) REFERENCES sensor) PARTITION BY RANGE (at);
CREATE TABLE reading_2029 PARTITION OF reading FOR VALUES FROM ('2029-01-01') TO ('2030-01-01');
CREATE TABLE reading_2030 PARTITION OF reading FOR VALUES FROM ('2030-01-01') TO ('2031-01-01')
  PARTITION BY HASH (tenant_id);
CREATE TABLE reading_2030_a PARTITION OF reading_2030 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE reading_2030_b PARTITION OF reading_2030 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE alarm (id int, owner int NOT NULL, at date NOT NULL, mark text) PARTITION BY RANGE (at);
CREATE TABLE alarm_2029 PARTITION OF alarm FOR VALUES FROM ('2029-01-01') TO ('2030-01-01');
CREATE TABLE alarm_2030 PARTITION OF alarm FOR VALUES FROM ('2030-01-01') TO ('2031-01-01');
ALTER TABLE alarm_2029 ADD CONSTRAINT old_owner FOREIGN KEY (owner) REFERENCES tenant;
ALTER TABLE alarm_2030 ADD CONSTRAINT new_owner FOREIGN KEY (owner) REFERENCES tenant;
CREATE TABLE customer (id int, tenant int NOT NULL REFERENCES tenant, mark text, PRIMARY KEY (id))
  PARTITION BY RANGE (id);
CREATE TABLE customer_1 PARTITION OF customer FOR VALUES FROM (0) TO (10);
CREATE TABLE customer_2 PARTITION OF customer FOR VALUES FROM (10) TO (20);
CREATE TABLE bill (id int PRIMARY KEY, customer int NOT NULL REFERENCES customer, mark text);
CREATE TABLE place (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant, mark text);
CREATE TABLE building (floors int) INHERITS (place);
CREATE TABLE unit (code text PRIMARY KEY, mark text);
INSERT INTO tenant SELECT g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO device SELECT g, 1, 't' || g FROM generate_series(1, 2) g;
INSERT INTO sensor SELECT g, 1, 1, 't' || g FROM generate_series(1, 2) g;
INSERT INTO reading SELECT g, 1, 1, y, 't' || g FROM generate_series(1, 2) g,
  unnest(ARRAY['2029-05-05', '2030-05-05']::date[]) y;
INSERT INTO alarm SELECT g, g, y, 't' || g FROM generate_series(1, 2) g,
  unnest(ARRAY['2029-05-05', '2030-05-05']::date[]) y;
INSERT INTO customer VALUES (1, 1, 't1'), (11, 2, 't2');
INSERT INTO bill VALUES (1, 1, 't1'), (2, 11, 't2');
INSERT INTO place VALUES (1, 1, 't1');
INSERT INTO building VALUES (2, 2, 't2', 3);
INSERT INTO unit VALUES ('kg', 'shared');
