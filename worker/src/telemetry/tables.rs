//! The tables of telemetry and every statement on them, for both stores: what is written here runs
//! unchanged on SQLite (with the file attached as `telemetry`), openGauss and PostgreSQL.

use berth_common::telemetry::Table;

/// One table: its columns besides `device` and `t`, and its statements.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Series {
    pub name: &'static str,
    /// The column that tells rows of one time apart, where there are several.
    pub key: Option<&'static str>,
    pub columns: &'static [&'static str],
    /// Device, time, key where there is one, values.
    pub insert: &'static str,
    /// Time and values of a device from … to …, oldest first, at most so many. For tables without
    /// a key, which are those that can be asked for.
    pub page: &'static str,
    /// The times of a device's oldest rows before …, at most so many.
    pub oldest: &'static str,
    /// A device's rows up to and with a time.
    pub delete: &'static str,
}

macro_rules! series {
    ($name:literal, key: $key:expr, $($column:literal),+; insert: $insert:literal, page: $page:literal) => {
        Series {
            name: $name,
            key: $key,
            columns: &[$($column),+],
            insert: concat!("INSERT INTO telemetry.", $name, " ", $insert),
            page: concat!(
                "SELECT t, ", $page, " FROM telemetry.", $name,
                " WHERE device = $1 AND t >= $2 AND t <= $3 ORDER BY t LIMIT $4"
            ),
            oldest: concat!(
                "SELECT t FROM telemetry.", $name, " WHERE device = $1 AND t < $2 ORDER BY t LIMIT $3"
            ),
            delete: concat!("DELETE FROM telemetry.", $name, " WHERE device = $1 AND t <= $2"),
        }
    };
}

pub(super) static GAUGE: Series = series!("gauge", key: None, "cpu", "mem", "gpu_load", "gpu_mem";
    insert: "(device, t, cpu, mem, gpu_load, gpu_mem) VALUES ($1, $2, $3, $4, $5, $6)",
    page: "cpu, mem, gpu_load, gpu_mem");
pub(super) static MEMORY: Series = series!("memory", key: None, "total", "used";
    insert: "(device, t, total, used) VALUES ($1, $2, $3, $4)", page: "total, used");
pub(super) static GPUMEM: Series = series!("gpumem", key: None, "total", "used";
    insert: "(device, t, total, used) VALUES ($1, $2, $3, $4)", page: "total, used");
pub(super) static DISKIO: Series = series!("diskio", key: None, "read_rate", "write_rate";
    insert: "(device, t, read_rate, write_rate) VALUES ($1, $2, $3, $4)", page: "read_rate, write_rate");
pub(super) static NETIO: Series = series!("netio", key: None, "send_rate", "recv_rate";
    insert: "(device, t, send_rate, recv_rate) VALUES ($1, $2, $3, $4)", page: "send_rate, recv_rate");
pub(super) static GPU_SAMPLE: Series = series!("gpu_sample", key: Some("gpu"), "load", "mem_used", "power_w", "temp_c", "ecc";
    insert: "(device, t, gpu, load, mem_used, power_w, temp_c, ecc) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    page: "load, mem_used, power_w, temp_c, ecc");
pub(super) static CONTAINER_SAMPLE: Series = series!("container_sample", key: Some("container"), "cpu", "mem", "gpu_load", "gpu_mem";
    insert: "(device, t, container, cpu, mem, gpu_load, gpu_mem) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    page: "cpu, mem, gpu_load, gpu_mem");

pub(super) static ALL: [&Series; 7] =
    [&GAUGE, &MEMORY, &GPUMEM, &DISKIO, &NETIO, &GPU_SAMPLE, &CONTAINER_SAMPLE];

/// The series behind a table that can be asked for.
pub(super) fn of(table: Table) -> &'static Series {
    match table {
        Table::Gauge => &GAUGE,
        Table::Memory => &MEMORY,
        Table::GpuMem => &GPUMEM,
        Table::DiskIo => &DISKIO,
        Table::NetIo => &NETIO,
    }
}

/// Migrations in order: name and statements.
pub(super) const MIGRATIONS: &[(&str, &str)] =
    &[("0001_telemetry", include_str!("../../../sql/worker/0001_telemetry.sql"))];

pub(super) const APPLIED: &str = "SELECT name FROM telemetry.migrations";
pub(super) const APPLY: &str = "INSERT INTO telemetry.migrations (name, applied_at) VALUES ($1, $2)";

/// The statements of a migration, one by one: openGauss and Citus want one DDL statement per call.
pub(super) fn statements(migration: &str) -> Vec<String> {
    let code: Vec<&str> = migration.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    code.join("\n").split(';').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_that_can_be_asked_for() {
        for table in Table::ALL {
            assert_eq!(of(*table).name, table.as_str());
            assert_eq!(of(*table).columns, table.columns());
        }
    }

    #[test]
    fn every_statement_names_every_column_once() {
        for series in ALL {
            let columns = series.columns.join(", ");
            assert!(series.insert.contains(&format!("{columns})")), "{}", series.insert);
            assert!(series.page.contains(&format!("SELECT t, {columns} FROM")), "{}", series.page);
            let parameters = 2 + series.key.iter().len() + series.columns.len();
            assert!(series.insert.ends_with(&format!("${parameters})")), "{}", series.insert);
        }
    }

    #[test]
    fn a_migration_is_cut_into_statements() {
        let found = statements(MIGRATIONS[0].1);
        assert_eq!(found.len(), 1 + ALL.len());
        assert!(found.iter().all(|statement| statement.starts_with("CREATE TABLE telemetry.")), "{found:?}");
    }
}
