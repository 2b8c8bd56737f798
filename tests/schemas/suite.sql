-- A business suite as Odoo has it: company_id nearly everywhere and mostly nullable, pairs without keys of their own.
CREATE TABLE res_company (id serial PRIMARY KEY, parent_id int REFERENCES res_company, create_uid int, mark text);
CREATE TABLE res_users (id serial PRIMARY KEY, company_id int NOT NULL REFERENCES res_company,
  create_uid int REFERENCES res_users, write_uid int REFERENCES res_users, mark text);
ALTER TABLE res_company ADD FOREIGN KEY (create_uid) REFERENCES res_users;
CREATE TABLE res_company_users_rel (cid int NOT NULL REFERENCES res_company ON DELETE CASCADE,
  user_id int NOT NULL REFERENCES res_users ON DELETE CASCADE, mark text, PRIMARY KEY (cid, user_id));
CREATE TABLE res_users_log (id serial PRIMARY KEY, create_uid int REFERENCES res_users, mark text);
CREATE TABLE res_country (id serial PRIMARY KEY, create_uid int REFERENCES res_users,
  write_uid int REFERENCES res_users, mark text);
CREATE TABLE res_currency (id serial PRIMARY KEY, create_uid int REFERENCES res_users,
  write_uid int REFERENCES res_users, mark text);
CREATE TABLE res_partner (id serial PRIMARY KEY, company_id int REFERENCES res_company,
  country_id int REFERENCES res_country, user_id int REFERENCES res_users,
  create_uid int REFERENCES res_users, write_uid int REFERENCES res_users, mark text);
CREATE TABLE res_partner_bank (id serial PRIMARY KEY, partner_id int NOT NULL REFERENCES res_partner ON DELETE CASCADE,
  company_id int REFERENCES res_company, mark text);
CREATE TABLE account_journal (id serial PRIMARY KEY, company_id int NOT NULL REFERENCES res_company, mark text);
CREATE TABLE account_move (id serial PRIMARY KEY, company_id int REFERENCES res_company,
  journal_id int NOT NULL REFERENCES account_journal, currency_id int NOT NULL REFERENCES res_currency,
  create_uid int REFERENCES res_users, write_uid int REFERENCES res_users, mark text);
CREATE TABLE account_move_line (id serial PRIMARY KEY, company_id int REFERENCES res_company,
  move_id int NOT NULL REFERENCES account_move ON DELETE CASCADE, partner_id int REFERENCES res_partner,
  create_uid int REFERENCES res_users, write_uid int REFERENCES res_users, mark text);
CREATE TABLE account_tax (id serial PRIMARY KEY, company_id int NOT NULL REFERENCES res_company,
  country_id int NOT NULL REFERENCES res_country, mark text);
CREATE TABLE account_move_line_account_tax_rel (account_move_line_id int NOT NULL REFERENCES account_move_line
  ON DELETE CASCADE, account_tax_id int NOT NULL REFERENCES account_tax ON DELETE CASCADE, mark text,
  PRIMARY KEY (account_move_line_id, account_tax_id));
CREATE TABLE account_payment_term (id serial PRIMARY KEY, company_id int REFERENCES res_company, mark text);
CREATE TABLE account_payment_term_line (id serial PRIMARY KEY,
  payment_id int NOT NULL REFERENCES account_payment_term ON DELETE CASCADE, mark text);
CREATE TABLE mail_message (id serial PRIMARY KEY, model text, res_id int, author_id int REFERENCES res_partner,
  create_uid int REFERENCES res_users, write_uid int REFERENCES res_users, mark text);
CREATE TABLE product_template (id serial PRIMARY KEY, company_id int REFERENCES res_company, mark text);
CREATE TABLE product_product (id serial PRIMARY KEY,
  product_tmpl_id int NOT NULL REFERENCES product_template ON DELETE CASCADE, mark text);
CREATE TABLE sale_order (id serial PRIMARY KEY, company_id int NOT NULL REFERENCES res_company,
  partner_id int NOT NULL REFERENCES res_partner, mark text);
CREATE TABLE sale_order_line (id serial PRIMARY KEY, order_id int NOT NULL REFERENCES sale_order ON DELETE CASCADE,
  company_id int REFERENCES res_company, product_id int REFERENCES product_product, mark text);
INSERT INTO res_company SELECT g, NULL, NULL, 't' || g FROM generate_series(1, 2) g;
INSERT INTO res_users SELECT g, 1 + g % 2, 1, 1, 'shared' FROM generate_series(1, 3) g;
INSERT INTO res_company_users_rel VALUES (1, 1, 't1'), (2, 1, 't2'), (2, 2, 't2');
INSERT INTO res_users_log VALUES (1, 1, 'shared');
INSERT INTO res_country VALUES (1, 1, 1, 'shared'), (2, 2, 2, 'shared');
INSERT INTO res_currency VALUES (1, 1, 1, 'shared'), (2, 2, 2, 'shared');
INSERT INTO res_partner VALUES (1, 1, 1, NULL, 1, 1, 't1'), (2, 2, 1, 1, 1, 1, 't2'), (3, NULL, 1, 1, 2, 2, 'shared');
INSERT INTO res_partner_bank VALUES (1, 1, 1, 't1'), (2, 2, 2, 't2'), (3, 3, NULL, 'shared');
INSERT INTO account_journal SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO account_move SELECT g, g, g, 1, 1, 1, 't' || g FROM generate_series(1, 2) g;
INSERT INTO account_move_line SELECT g, g, g, 3, 1, 1, 't' || g FROM generate_series(1, 2) g;
INSERT INTO account_tax SELECT g, g, 1, 't' || g FROM generate_series(1, 2) g;
INSERT INTO account_move_line_account_tax_rel SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO account_payment_term VALUES (1, 1, 't1'), (2, NULL, 'shared');
INSERT INTO account_payment_term_line VALUES (1, 1, 't1'), (2, 2, 'shared');
INSERT INTO mail_message VALUES (1, 'res.partner', 1, 1, 1, 1, 'shared');
INSERT INTO product_template VALUES (1, 2, 't2'), (2, NULL, 'shared');
INSERT INTO product_product VALUES (1, 1, 't2'), (2, 2, 'shared');
INSERT INTO sale_order SELECT g, g, 3, 't' || g FROM generate_series(1, 2) g;
INSERT INTO sale_order_line SELECT g, g, g, 2, 't' || g FROM generate_series(1, 2) g;
