-- An ERP as Tryton has it: companies, create_uid and write_uid everywhere, parties and products that all companies share.
CREATE TABLE res_user (id serial PRIMARY KEY, create_uid int REFERENCES res_user, write_uid int REFERENCES res_user,
  mark text);
CREATE TABLE party_party (id serial PRIMARY KEY, create_uid int REFERENCES res_user, write_uid int REFERENCES res_user,
  mark text);
CREATE TABLE currency_currency (id serial PRIMARY KEY, create_uid int REFERENCES res_user,
  write_uid int REFERENCES res_user, mark text);
CREATE TABLE company_company (id serial PRIMARY KEY, parent int REFERENCES company_company,
  party int NOT NULL REFERENCES party_party, currency int NOT NULL REFERENCES currency_currency,
  create_uid int REFERENCES res_user, write_uid int REFERENCES res_user, mark text);
ALTER TABLE res_user ADD company int REFERENCES company_company;
CREATE TABLE "res_user-company_company" (id serial PRIMARY KEY, "user" int NOT NULL REFERENCES res_user,
  company int NOT NULL REFERENCES company_company, create_uid int REFERENCES res_user, mark text);
CREATE TABLE ir_note_read (id serial PRIMARY KEY, "user" int NOT NULL REFERENCES res_user, mark text);
CREATE TABLE product (id serial PRIMARY KEY, create_uid int REFERENCES res_user, write_uid int REFERENCES res_user,
  mark text);
CREATE TABLE product_cost (id serial PRIMARY KEY, product int REFERENCES product,
  company int REFERENCES company_company, mark text);
CREATE TABLE account (id serial PRIMARY KEY, company int NOT NULL REFERENCES company_company, mark text);
CREATE TABLE fiscal_year (id serial PRIMARY KEY, company int NOT NULL REFERENCES company_company, mark text);
CREATE TABLE period (id serial PRIMARY KEY, fiscalyear int NOT NULL REFERENCES fiscal_year, mark text);
CREATE TABLE account_deferral (id serial PRIMARY KEY, account int NOT NULL REFERENCES account,
  fiscalyear int NOT NULL REFERENCES fiscal_year, mark text);
CREATE TABLE invoice (id serial PRIMARY KEY, company int NOT NULL REFERENCES company_company,
  party int NOT NULL REFERENCES party_party, create_uid int NOT NULL REFERENCES res_user, mark text);
CREATE TABLE invoice_line (id serial PRIMARY KEY, invoice int REFERENCES invoice ON DELETE CASCADE,
  company int NOT NULL REFERENCES company_company, product int REFERENCES product, mark text);
CREATE TABLE invoice_tax (id serial PRIMARY KEY, invoice int NOT NULL REFERENCES invoice ON DELETE CASCADE,
  account int NOT NULL REFERENCES account ON DELETE RESTRICT, mark text);
CREATE TABLE sequence_type (id serial PRIMARY KEY, mark text);
CREATE TABLE sequence (id serial PRIMARY KEY, company int REFERENCES company_company,
  type int NOT NULL REFERENCES sequence_type, mark text);
INSERT INTO res_user SELECT g, 1, 1, 'shared' FROM generate_series(1, 3) g;
INSERT INTO party_party SELECT g, 1, 1, 'shared' FROM generate_series(1, 5) g;
INSERT INTO currency_currency VALUES (1, 1, 1, 'shared');
INSERT INTO company_company SELECT g, NULL, g, 1, 1, 1, 't' || g FROM generate_series(1, 2) g;
UPDATE res_user SET company = 1 + id % 2 WHERE id < 3;
INSERT INTO "res_user-company_company" VALUES (1, 1, 1, 1, 't1'), (2, 1, 2, 1, 't2'), (3, 2, 2, 1, 't2');
INSERT INTO ir_note_read VALUES (1, 2, 'shared');
INSERT INTO product VALUES (1, 1, 1, 'shared'), (2, 2, 2, 'shared');
INSERT INTO product_cost SELECT g, 1, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO account SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO fiscal_year SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO period SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO account_deferral SELECT g, g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO invoice SELECT g, g, g, 1, 't' || g FROM generate_series(1, 2) g;
INSERT INTO invoice_line SELECT g, g, g, 1, 't' || g FROM generate_series(1, 2) g;
INSERT INTO invoice_tax SELECT g, g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO sequence_type VALUES (1, 'shared');
INSERT INTO sequence VALUES (1, 1, 1, 't1'), (2, 2, 1, 't2'), (3, NULL, 1, 'shared');
