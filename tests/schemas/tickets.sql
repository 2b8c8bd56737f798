-- Ticket sales as pretix has them: organizers, their events, everything below an event; users who work for several.
CREATE TABLE organizer (id serial PRIMARY KEY, slug text UNIQUE NOT NULL, mark text);
CREATE TABLE django_migrations (id serial PRIMARY KEY, mark text);
CREATE TABLE django_session (session_key text PRIMARY KEY, mark text);
CREATE TABLE auth_user (id serial PRIMARY KEY, mark text);
CREATE TABLE auth_device (id serial PRIMARY KEY, user_id int NOT NULL REFERENCES auth_user, mark text);
CREATE TABLE team (id serial PRIMARY KEY, organizer_id int NOT NULL REFERENCES organizer, mark text);
CREATE TABLE team_members (id serial PRIMARY KEY, team_id int NOT NULL REFERENCES team,
  user_id int NOT NULL REFERENCES auth_user, mark text, UNIQUE (team_id, user_id));
CREATE TABLE sales_channel (id serial PRIMARY KEY, organizer_id int NOT NULL REFERENCES organizer, mark text);
CREATE TABLE customer (id serial PRIMARY KEY, organizer_id int NOT NULL REFERENCES organizer, mark text);
CREATE TABLE event (id serial PRIMARY KEY, organizer_id int NOT NULL REFERENCES organizer, mark text);
CREATE TABLE event_settings (id serial PRIMARY KEY, object_id int NOT NULL REFERENCES event, mark text);
CREATE TABLE organizer_settings (id serial PRIMARY KEY, object_id int NOT NULL REFERENCES organizer, mark text);
CREATE TABLE item (id serial PRIMARY KEY, event_id int NOT NULL REFERENCES event, mark text);
CREATE TABLE quota (id serial PRIMARY KEY, event_id int NOT NULL REFERENCES event, mark text);
CREATE TABLE quota_items (id serial PRIMARY KEY, quota_id int NOT NULL REFERENCES quota,
  item_id int NOT NULL REFERENCES item, mark text, UNIQUE (quota_id, item_id));
CREATE TABLE question (id serial PRIMARY KEY, event_id int NOT NULL REFERENCES event, mark text);
CREATE TABLE question_items (id serial PRIMARY KEY, question_id int NOT NULL REFERENCES question,
  item_id int NOT NULL REFERENCES item, mark text);
CREATE TABLE event_channels (id serial PRIMARY KEY, event_id int NOT NULL REFERENCES event,
  sales_channel_id int NOT NULL REFERENCES sales_channel, mark text);
CREATE TABLE orders (id serial PRIMARY KEY, event_id int NOT NULL REFERENCES event,
  customer_id int REFERENCES customer, mark text);
CREATE TABLE order_position (id serial PRIMARY KEY, order_id int NOT NULL REFERENCES orders,
  item_id int REFERENCES item, addon_to_id int REFERENCES order_position, mark text);
CREATE TABLE order_payment (id serial PRIMARY KEY, order_id int NOT NULL REFERENCES orders, mark text);
CREATE TABLE answer (id serial PRIMARY KEY, position_id int REFERENCES order_position,
  question_id int NOT NULL REFERENCES question, mark text);
CREATE TABLE invoice_address (id serial PRIMARY KEY, order_id int REFERENCES orders,
  customer_id int REFERENCES customer, mark text);
CREATE TABLE gift_card (id serial PRIMARY KEY, issuer_id int NOT NULL REFERENCES organizer, mark text);
CREATE TABLE gift_acceptance (id serial PRIMARY KEY, issuer_id int NOT NULL REFERENCES organizer,
  acceptor_id int NOT NULL REFERENCES organizer, mark text);
CREATE TABLE log_entry (id serial PRIMARY KEY, organizer_id int REFERENCES organizer,
  user_id int REFERENCES auth_user, mark text);
INSERT INTO organizer SELECT g, 'o' || g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO django_migrations VALUES (1, 'shared');
INSERT INTO django_session VALUES ('s', 'shared');
INSERT INTO auth_user SELECT g, 'shared' FROM generate_series(1, 3) g;
INSERT INTO auth_device VALUES (1, 1, 'shared');
INSERT INTO team SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO team_members VALUES (1, 1, 1, 't1'), (2, 1, 2, 't1'), (3, 2, 2, 't2'), (4, 2, 3, 't2');
INSERT INTO sales_channel SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO customer SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO event SELECT g, 1 + g % 2, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO event_settings SELECT g, g, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO organizer_settings SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO item SELECT g, g, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO quota SELECT g, g, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO quota_items SELECT g, g, g, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO question SELECT g, g, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO question_items SELECT g, g, g, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO event_channels SELECT g, g, 1 + g % 2, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO orders SELECT g, g, NULL, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO order_position SELECT g, g, g, NULL, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO order_payment SELECT g, g, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO answer SELECT g, NULL, g, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO invoice_address SELECT g, g, NULL, 't' || 1 + g % 2 FROM generate_series(1, 4) g;
INSERT INTO gift_card SELECT g, g, 't' || g FROM generate_series(1, 2) g;
INSERT INTO gift_acceptance VALUES (1, 1, 2, 't1');
INSERT INTO log_entry VALUES (1, 1, 1, 't1'), (2, NULL, 1, 'shared');
