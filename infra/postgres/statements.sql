-- SQL statements of the connection pool and the migrations.

-- name: ping
-- Check that the server answers.
-- Result: one row with the number 1.
SELECT 1;

-- name: show_read_only
-- Find out whether the server refuses to write, as a standby does.
-- Result: one row with 'on' or 'off'.
SHOW transaction_read_only;

-- name: lock_schema
-- Wait for the lock under which tables are created. The lock ends with the transaction.
-- Parameters: the number of the advisory lock.
SELECT pg_advisory_xact_lock(%s);

-- name: create_migrations_table
-- Create the schema and the table of applied migrations in a new database.
CREATE SCHEMA IF NOT EXISTS tickview;
CREATE TABLE IF NOT EXISTS tickview.migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: has_migrations_table
-- Find out whether the database has a table of applied migrations.
-- Result: one row with a boolean.
SELECT to_regclass('tickview.migrations') IS NOT NULL;

-- name: select_applied_migrations
-- Read the numbers of the applied migrations.
-- Result: one row with a number per migration.
SELECT number FROM tickview.migrations;

-- name: insert_applied_migration
-- Record an applied migration.
-- Parameters: the number and the name of the migration.
INSERT INTO tickview.migrations (number, name) VALUES (%s, %s);

-- name: set_session
-- Make the settings on which statements and their results depend. The server must not end idle sessions.
SET datestyle TO ISO; SET standard_conforming_strings TO on; SET idle_session_timeout TO 0;
