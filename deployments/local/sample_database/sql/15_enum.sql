-- A value added to an enum can be used only after its transaction, so this file is one of its own.
-- feature: enum with a value added in between

CREATE SCHEMA types;

CREATE TYPE types.plan AS ENUM ('free', 'team', 'enterprise');
ALTER TYPE types.plan ADD VALUE 'business' BEFORE 'enterprise';
ALTER TYPE types.plan ADD VALUE 'it''s "custom"';
