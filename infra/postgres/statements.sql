-- SQL statements of the connection pool and the migrations.

-- name: ping
-- Check that the server answers.
-- Result: one row with the number 1.
SELECT 1;

-- name: show_read_only
-- Find out whether the server refuses to write, as a standby does.
-- Result: one row with 'on' or 'off'.
SHOW transaction_read_only;

-- name: is_standby
-- Find out whether the server is a standby, which replays what a primary server writes.
-- Result: one row with a boolean.
SELECT pg_is_in_recovery();

-- name: select_system_identifier
-- Read the number that a server shares with all its standbys.
-- Result: one row with the number.
SELECT system_identifier FROM pg_control_system();

-- name: select_written
-- Find out up to which place of its write-ahead log (WAL) a server has everything.
-- Result: one row with the place as text.
SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text;

-- name: select_progress
-- Find out how far each log is archived, and how far each history is folded.
-- Result: one row (name, version, log, position) per segment.
SELECT name, version::text, log, position FROM tickview.segments;

-- name: select_seconds_behind
-- Find out for how many seconds a standby has replayed no transaction, if it has not replayed the WAL up to a place.
-- Parameters: written (a place).
-- Result: one row with the number; 0 if the standby has everything up to the place, or is no standby any more.
SELECT CASE WHEN pg_is_in_recovery() AND pg_last_wal_replay_lsn() < %(written)s::pg_lsn THEN
    coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 'infinity') ELSE 0 END;

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
