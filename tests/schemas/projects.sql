-- A Django application: uuid keys, joined inheritance, content types, generic keys, an audit log by who did it.
CREATE TABLE tenants_workspace (id uuid PRIMARY KEY, mark text);
CREATE TABLE accounts_user (id serial PRIMARY KEY, default_workspace_id uuid REFERENCES tenants_workspace, mark text);
CREATE TABLE accounts_membership (id serial PRIMARY KEY, user_id int NOT NULL REFERENCES accounts_user,
  workspace_id uuid NOT NULL REFERENCES tenants_workspace, invited_by_id int REFERENCES accounts_user, mark text,
  UNIQUE (user_id, workspace_id));
CREATE TABLE django_content_type (id serial PRIMARY KEY, mark text);
CREATE TABLE django_admin_log (id serial PRIMARY KEY, user_id int NOT NULL REFERENCES accounts_user,
  content_type_id int REFERENCES django_content_type, mark text);
CREATE TABLE core_document (id serial PRIMARY KEY, workspace_id uuid NOT NULL REFERENCES tenants_workspace,
  created_by_id int NOT NULL REFERENCES accounts_user, updated_by_id int NOT NULL REFERENCES accounts_user, mark text);
CREATE TABLE core_report (document_ptr_id int PRIMARY KEY REFERENCES core_document, mark text);
CREATE TABLE core_chapter (id serial PRIMARY KEY, report_id int NOT NULL REFERENCES core_report (document_ptr_id),
  previous_chapter_id int REFERENCES core_chapter, mark text);
CREATE TABLE core_tag (id serial PRIMARY KEY, workspace_id uuid NOT NULL REFERENCES tenants_workspace, mark text);
CREATE TABLE core_document_tags (id serial PRIMARY KEY, document_id int NOT NULL REFERENCES core_document,
  tag_id int NOT NULL REFERENCES core_tag, mark text, UNIQUE (document_id, tag_id));
CREATE TABLE core_share (id serial PRIMARY KEY, source_workspace_id uuid NOT NULL REFERENCES tenants_workspace,
  target_workspace_id uuid NOT NULL REFERENCES tenants_workspace, document_id int NOT NULL REFERENCES core_document,
  mark text);
CREATE TABLE core_comment (id serial PRIMARY KEY, chapter_id int NOT NULL REFERENCES core_chapter,
  author_id int NOT NULL REFERENCES accounts_user, mark text);
CREATE TABLE core_profile (id serial PRIMARY KEY, user_id int NOT NULL UNIQUE REFERENCES accounts_user, mark text);
INSERT INTO tenants_workspace SELECT ('00000000-0000-0000-0000-00000000000' || g)::uuid, 't' || g
  FROM generate_series(1, 2) g;
INSERT INTO accounts_user SELECT g, (SELECT id FROM tenants_workspace WHERE mark = 't1'), 'shared'
  FROM generate_series(1, 3) g;
INSERT INTO accounts_membership SELECT u.id + 10 * row_number() OVER (), u.id, w.id, NULL, w.mark
  FROM accounts_user u, tenants_workspace w WHERE u.id < 3;
INSERT INTO django_content_type VALUES (1, 'shared');
INSERT INTO django_admin_log VALUES (1, 1, 1, 'shared');
INSERT INTO core_document SELECT right(id::text, 1)::int, id, 3, 3, mark FROM tenants_workspace;
INSERT INTO core_report SELECT id, mark FROM core_document;
INSERT INTO core_chapter SELECT id, id, NULL, mark FROM core_document;
INSERT INTO core_tag SELECT right(id::text, 1)::int, id, mark FROM tenants_workspace;
INSERT INTO core_document_tags SELECT id, id, id, mark FROM core_document;
INSERT INTO core_share SELECT 1, a.id, b.id, 1, 't1' FROM tenants_workspace a, tenants_workspace b
  WHERE a.mark = 't1' AND b.mark = 't2';
INSERT INTO core_comment SELECT id, id, 3, mark FROM core_document;
INSERT INTO core_profile VALUES (1, 1, 'shared');
