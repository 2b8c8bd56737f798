-- needs: icu
CREATE COLLATION zoo.german (provider = icu, locale = 'de-u-co-phonebk');
CREATE COLLATION zoo.blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE zoo.sorted (t text COLLATE zoo.german, b text COLLATE zoo.blind UNIQUE);
INSERT INTO zoo.sorted VALUES ('Ärger', 'a'), ('Aerger', 'b'), ('Zebra', 'Ç');
CREATE INDEX ON zoo.sorted (t);
