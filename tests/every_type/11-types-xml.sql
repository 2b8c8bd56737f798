-- needs: xml
CREATE TABLE zoo.markup (id int PRIMARY KEY, x xml);
INSERT INTO zoo.markup VALUES
  (1, xmlparse(DOCUMENT '<?xml version="1.0"?><a b="c">text &amp; more</a>')), (2, xmlparse(CONTENT 'no root <b/> <c/>')),
  (3, xmlparse(CONTENT E'tab\t line\n \\. <d><![CDATA[ raw & ]]></d>')), (4, NULL), (5, xmlparse(CONTENT ''));
