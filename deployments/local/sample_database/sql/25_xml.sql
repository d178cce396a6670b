-- needs: libxml
-- feature: xml

CREATE TABLE types.markup (id int PRIMARY KEY, body xml, several xml[]);
INSERT INTO types.markup VALUES
    (1, XMLPARSE(DOCUMENT '<?xml version="1.0"?><a b="1">text &amp; more<!-- c --></a>'), ARRAY[XMLPARSE(CONTENT '<x/>')]), (2, XMLPARSE(CONTENT 'no <b>root</b>'), '{}'), (3, NULL, NULL);
