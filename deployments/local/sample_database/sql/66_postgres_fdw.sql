-- needs: extension postgres_fdw
-- feature: foreign table of another PostgreSQL

RESET ROLE;
CREATE SCHEMA IF NOT EXISTS extensions AUTHORIZATION platform_owner;
CREATE EXTENSION postgres_fdw WITH SCHEMA extensions;
CREATE SERVER billing_elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'billing.example.com', dbname 'billing', fetch_size '500');
ALTER SERVER billing_elsewhere OWNER TO platform_admin;
CREATE USER MAPPING FOR platform_owner SERVER billing_elsewhere OPTIONS (user 'reader', password_required 'true', password 'not a real password');
CREATE FOREIGN TABLE app.billing_accounts (id bigint, balance numeric(12, 2) OPTIONS (column_name 'amount')) SERVER billing_elsewhere OPTIONS (schema_name 'public', table_name 'accounts');
ALTER FOREIGN TABLE app.billing_accounts OWNER TO platform_owner;
