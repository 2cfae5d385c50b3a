//! Tables, for the terminal and as Markdown.

use std::fmt::Write;

/// A table: the first column names the row.
pub(super) struct Table {
    /// Its heading.
    pub(super) title: String,
    /// The headings of the columns.
    pub(super) columns: Vec<String>,
    /// The rows, each as long as `columns`.
    pub(super) rows: Vec<Vec<String>>,
    /// What a reader must know to read it.
    pub(super) notes: Vec<String>,
}

impl Table {
    pub(super) fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Self { title: title.into(), columns, rows: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Says in how many runs an agent that is not ours was there.
    pub(super) fn disturbed(&mut self, runs: usize) {
        if runs > 0 {
            self.note(format!("DISTURBED: another spantap was running at the start of {runs} runs"));
        }
    }

    fn text(&self) -> String {
        let all = || std::iter::once(&self.columns).chain(&self.rows);
        let width = |i: usize| all().map(|row| row[i].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = format!("\n{}\n", self.title);
        for row in all() {
            let mut line = String::from(" ");
            for (i, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                // Names to the left, numbers to the right.
                let _ =
                    if i == 0 { write!(line, " {cell:<width$}") } else { write!(line, "  {cell:>width$}") };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "  - {note}");
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n", self.title);
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        text.push_str(&line(&self.columns));
        let rule: Vec<String> =
            (0..self.columns.len()).map(|i| if i == 0 { "---" } else { "---:" }.to_owned()).collect();
        text.push_str(&line(&rule));
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        text.push('\n');
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        text
    }
}

/// Everything one run of the subcommand has to say.
pub(super) struct Report {
    /// Where and when: name and value.
    machine: Vec<(&'static str, String)>,
    warnings: Vec<String>,
    tables: Vec<Table>,
}

impl Report {
    pub(super) fn new(machine: Vec<(&'static str, String)>) -> Self {
        Self { machine, warnings: Vec::new(), tables: Vec::new() }
    }

    pub(super) fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    pub(super) fn add(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// How many tables there are.
    pub(super) fn tables(&self) -> usize {
        self.tables.len()
    }

    pub(super) fn print_head(&self) {
        for (name, value) in &self.machine {
            println!("{name:10} {value}");
        }
        for warning in &self.warnings {
            println!("WARNING: {warning}");
        }
    }

    pub(super) fn print_tables(&self, from: usize) {
        self.tables.iter().skip(from).for_each(|table| print!("{}", table.text()));
        println!();
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.machine {
            let _ = writeln!(text, "- {name}: {value}");
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "- **warning**: {warning}");
        }
        text.push('\n');
        self.tables.iter().for_each(|table| text.push_str(&table.markdown()));
        // One newline at the end, as every file here.
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_in_both_forms() {
        let mut table = Table::new("Calls", &["call", "ns"]);
        table.row(["getppid".to_owned(), "7".to_owned()]);
        table.row(["write".to_owned(), "120".to_owned()]);
        table.note("of this machine");
        assert_eq!(
            table.text(),
            "\nCalls\n  call      ns\n  getppid    7\n  write    120\n  - of this machine\n"
        );
        let mut report = Report::new(vec![("kernel", "6.1".to_owned())]);
        report.add(table);
        assert_eq!(
            report.markdown(),
            "- kernel: 6.1\n\n### Calls\n\n| call | ns |\n| --- | ---: |\n| getppid | 7 |\n| write | 120 |\n\n- of this \
             machine\n"
        );
    }
}
