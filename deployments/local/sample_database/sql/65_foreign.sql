-- feature: foreign table
-- feature: foreign server with user mapping

RESET ROLE;
CREATE FOREIGN DATA WRAPPER platform_wrapper OPTIONS (debug 'true');
COMMENT ON FOREIGN DATA WRAPPER platform_wrapper IS 'Without a handler: its tables can be described and dumped, not read.';
CREATE SERVER "Data Warehouse" TYPE 'warehouse' VERSION '1.0' FOREIGN DATA WRAPPER platform_wrapper OPTIONS (host 'warehouse.example.com', note 'it''s far');
CREATE USER MAPPING FOR platform_reporting SERVER "Data Warehouse" OPTIONS (user 'reporting');
CREATE USER MAPPING FOR PUBLIC SERVER "Data Warehouse";
GRANT USAGE ON FOREIGN DATA WRAPPER platform_wrapper TO platform_owner;
ALTER SERVER "Data Warehouse" OWNER TO platform_owner;
SET ROLE platform_owner;
CREATE FOREIGN TABLE app.warehouse_facts (id bigint NOT NULL, fact text OPTIONS (column_name 'F'), measured numeric(10, 2) DEFAULT 0, CHECK (id > 0))
    SERVER "Data Warehouse" OPTIONS (table_name 'FACTS');
GRANT USAGE ON FOREIGN SERVER "Data Warehouse" TO platform_reporting;
