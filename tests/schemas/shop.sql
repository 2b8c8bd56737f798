-- A Rails application: bigint keys, belongs_to without NOT NULL, polymorphic tables, a marketplace between accounts.
CREATE TABLE schema_migrations (version text PRIMARY KEY, mark text);
CREATE TABLE ar_internal_metadata (key text PRIMARY KEY, mark text);
CREATE TABLE accounts (id bigserial PRIMARY KEY, mark text);
CREATE TABLE plans (id bigserial PRIMARY KEY, mark text);
CREATE TABLE subscriptions (id bigserial PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts ON DELETE CASCADE,
  plan_id bigint NOT NULL REFERENCES plans, mark text);
CREATE TABLE users (id bigserial PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, mark text);
CREATE TABLE products (id bigserial PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, mark text);
CREATE TABLE variants (id bigserial PRIMARY KEY, product_id bigint NOT NULL REFERENCES products, mark text);
CREATE TABLE orders (id bigserial PRIMARY KEY, account_id bigint REFERENCES accounts,
  user_id bigint REFERENCES users, mark text);
CREATE TABLE line_items (id bigserial PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE,
  variant_id bigint NOT NULL REFERENCES variants, mark text);
CREATE TABLE shipments (id bigserial PRIMARY KEY, order_id bigint NOT NULL, mark text);
ALTER TABLE shipments ADD CONSTRAINT fk_rails_1 FOREIGN KEY (order_id) REFERENCES orders NOT VALID;
CREATE TABLE transfers (id bigserial PRIMARY KEY, from_account_id bigint NOT NULL REFERENCES accounts,
  to_account_id bigint NOT NULL REFERENCES accounts, mark text);
CREATE TABLE reviews (id bigserial PRIMARY KEY, product_id bigint NOT NULL REFERENCES products,
  author_id bigint NOT NULL REFERENCES users, mark text);
CREATE TABLE api_keys (id bigserial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, mark text);
CREATE TABLE attachments (id bigserial PRIMARY KEY, record_type text, record_id bigint, mark text);
INSERT INTO schema_migrations VALUES ('1', 'shared');
INSERT INTO ar_internal_metadata VALUES ('environment', 'shared');
INSERT INTO accounts SELECT g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO plans VALUES (1, 'shared');
INSERT INTO subscriptions SELECT g, g, 1, 't' || g FROM generate_series(1, 2) g;
INSERT INTO users SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO products SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO variants SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO orders SELECT g, g, g, 't' || g FROM generate_series(1, 2) g;
-- The second account buys the first one's product.
INSERT INTO line_items VALUES (1, 1, 1, 't1'), (2, 2, 1, 't2');
INSERT INTO shipments SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO transfers VALUES (1, 1, 2, 't1'), (2, 2, 1, 't2');
INSERT INTO reviews VALUES (1, 1, 2, 't1');
INSERT INTO api_keys SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO attachments VALUES (1, 'Order', 1, 'shared');
