//! The screen of `vkernel top`: a table that can be sorted and scrolled, refusals below it, the keys at the end. Owns columns, order and keys; knows no terminal.

use super::sample::Reading;
use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Cell, List, Row as TableRow, Table, TableState};
use std::cmp::Ordering;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    End,
    Other,
}

type Text = fn(&Reading) -> String;
type Order = fn(&Reading, &Reading) -> Ordering;

struct Column {
    title: &'static str,
    width: u16,
    text: Text,
    order: Order,
}

fn name(r: &Reading) -> String {
    r.row.name.clone().unwrap_or_else(|| r.row.id.chars().take(12).collect())
}

fn number(of: fn(&Reading) -> Option<f64>) -> impl Fn(&Reading, &Reading) -> Ordering {
    move |a, b| of(a).unwrap_or(-1.0).total_cmp(&of(b).unwrap_or(-1.0))
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

/// In the largest unit that leaves at least one.
pub(crate) fn bytes(n: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    units.iter().find(|(size, _)| n >= *size).map_or_else(|| format!("{n} B"), |(size, unit)| format!("{:.1} {unit}", n as f64 / *size as f64))
}

const COLUMNS: [Column; 8] = [
    Column { title: "CONTAINER", width: 20, text: name, order: |a, b| name(a).cmp(&name(b)) },
    Column { title: "STATUS", width: 9, text: |r| r.row.status.to_string(), order: |a, b| a.row.status.to_string().cmp(&b.row.status.to_string()) },
    Column { title: "POLICY", width: 10, text: |r| if r.row.permissive { "permissive" } else { "enforced" }.into(), order: |a, b| a.row.permissive.cmp(&b.row.permissive) },
    Column { title: "CPU %", width: 7, text: |r| or_dash(r.cpu_percent.map(|p| format!("{p:.1}"))), order: |a, b| number(|r| r.cpu_percent)(a, b) },
    Column { title: "MEMORY", width: 10, text: |r| or_dash(r.row.memory_bytes.map(bytes)), order: |a, b| a.row.memory_bytes.cmp(&b.row.memory_bytes) },
    Column { title: "PIDS", width: 6, text: |r| or_dash(r.row.processes.map(|n| n.to_string())), order: |a, b| a.row.processes.cmp(&b.row.processes) },
    Column { title: "EXEC/S", width: 8, text: |r| or_dash(r.execs_per_second.map(|n| format!("{n:.1}"))), order: |a, b| number(|r| r.execs_per_second)(a, b) },
    Column {
        title: "DENIED",
        width: 8,
        text: |r| or_dash(r.row.counts.map(|c| c.denials.to_string())),
        order: |a, b| a.row.counts.map(|c| c.denials).cmp(&b.row.counts.map(|c| c.denials)),
    },
];
/// Most of it first.
const BY_CPU: usize = 3;

pub(super) struct View {
    column: usize,
    descending: bool,
    rows: TableState,
}

impl Default for View {
    fn default() -> Self {
        Self { column: BY_CPU, descending: true, rows: TableState::default() }
    }
}

impl View {
    pub(super) fn key(&mut self, key: KeyEvent) -> Told {
        if key.kind == KeyEventKind::Release {
            return Told::Other;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Told::End,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Told::End,
            KeyCode::Right => self.column = (self.column + 1) % COLUMNS.len(),
            KeyCode::Left => self.column = (self.column + COLUMNS.len() - 1) % COLUMNS.len(),
            KeyCode::Char('r') => self.descending = !self.descending,
            KeyCode::Down => self.rows.select_next(),
            KeyCode::Up => self.rows.select_previous(),
            _ => {}
        }
        Told::Other
    }

    fn sorted<'a>(&self, all: &'a [Reading]) -> Vec<&'a Reading> {
        let mut sorted: Vec<&Reading> = all.iter().collect();
        let order = COLUMNS[self.column].order;
        sorted.sort_by(|a, b| if self.descending { order(b, a) } else { order(a, b) });
        sorted
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, all: &[Reading], recent: &[String], daemon: bool) {
        let [head, containers, refusals, keys] = Layout::vertical([Constraint::Length(1), Constraint::Fill(2), Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
        let execs: f64 = all.iter().filter_map(|r| r.execs_per_second).sum();
        let denied: u64 = all.iter().filter_map(|r| r.row.counts).map(|c| c.denials).sum();
        let told = if daemon { format!("{execs:.1} execs/s, {denied} denied") } else { "no daemon: execs and refusals are not known".into() };
        frame.render_widget(Line::from(format!("vkernel top: {} containers, {told}", all.len())).style(Style::new().add_modifier(Modifier::BOLD)), head);
        let title = |(i, c): (usize, &Column)| match (i == self.column, self.descending) {
            (true, true) => Cell::from(format!("{}▼", c.title)).style(Style::new().fg(Color::Yellow)),
            (true, false) => Cell::from(format!("{}▲", c.title)).style(Style::new().fg(Color::Yellow)),
            _ => Cell::from(c.title),
        };
        let header = TableRow::new(COLUMNS.iter().enumerate().map(title)).style(Style::new().add_modifier(Modifier::BOLD));
        let row = |r: &Reading| {
            let style = if r.row.permissive { Style::new().fg(Color::Red) } else { Style::new() };
            TableRow::new(COLUMNS.iter().map(|c| (c.text)(r)).collect::<Vec<_>>()).style(style)
        };
        let table = Table::new(self.sorted(all).into_iter().map(row), COLUMNS.iter().map(|c| Constraint::Length(c.width + 1)));
        let table = table.header(header).row_highlight_style(Style::new().add_modifier(Modifier::REVERSED)).block(Block::new().borders(Borders::TOP));
        frame.render_stateful_widget(table, containers, &mut self.rows);
        let list = List::new(recent.iter().map(String::as_str)).block(Block::new().borders(Borders::TOP).title("refused, newest first"));
        frame.render_widget(list, refusals);
        frame.render_widget(Line::from("q end   ←→ sort by   r reverse   ↑↓ scroll").style(Style::new().add_modifier(Modifier::DIM)), keys);
    }
}

/// The same columns as plain text.
pub(super) fn table(all: &[Reading]) -> String {
    let line = |cells: Vec<String>| {
        let padded = cells.iter().zip(&COLUMNS).map(|(cell, c)| format!("{cell:<width$}", width = c.width as usize));
        padded.collect::<Vec<_>>().join(" ").trim_end().to_owned() + "\n"
    };
    let head = line(COLUMNS.iter().map(|c| c.title.to_owned()).collect());
    View::default().sorted(all).into_iter().fold(head, |text, r| text + &line(COLUMNS.iter().map(|c| (c.text)(r)).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::feed::Counts;
    use super::super::sample::Row;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn reading(name: &str, cpu: f64, permissive: bool) -> Reading {
        let row =
            Row { id: "0123456789ab".into(), name: Some(name.into()), permissive, memory_bytes: Some(3 << 20), counts: Some(Counts { execs: 9, denials: 2 }), ..Row::default() };
        Reading { row, cpu_percent: Some(cpu), execs_per_second: Some(1.5), ..Reading::default() }
    }

    fn shown(view: &mut View, all: &[Reading], recent: &[String], daemon: bool) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(100, 16)).unwrap();
        terminal.draw(|frame| view.draw(frame, all, recent, daemon)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y: u16| (0..100).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..16).map(line).collect()
    }

    #[test]
    fn containers_are_sorted_by_the_chosen_column_and_refusals_are_below() {
        let all = [reading("idle", 0.5, false), reading("busy", 150.0, true)];
        let mut view = View::default();
        let lines = shown(&mut view, &all, &["10:00:00 web exec denied unknown-hash /tmp/x".into()], true);
        assert_eq!(lines[0], "vkernel top: 2 containers, 3.0 execs/s, 4 denied");
        assert!(lines[2].starts_with("CONTAINER") && lines[2].contains("CPU %▼"), "{lines:?}");
        assert!(lines[3].starts_with("busy") && lines[3].contains("permissive") && lines[3].contains("150.0") && lines[4].starts_with("idle"), "{lines:?}");
        assert!(lines[4].contains("3.0 MiB") && lines[4].contains("enforced"), "{lines:?}");
        assert!(lines.iter().any(|l| l.contains("denied unknown-hash /tmp/x")) && lines[15].starts_with("q end"), "{lines:?}");
        let press = |view: &mut View, code| view.key(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(press(&mut view, KeyCode::Char('r')), Told::Other);
        assert!(shown(&mut view, &all, &[], true)[3].starts_with("idle"), "reversed");
        for _ in 0..BY_CPU {
            press(&mut view, KeyCode::Left);
        }
        assert!(shown(&mut view, &all, &[], false)[3].starts_with("busy"), "by name, ascending");
        assert!(shown(&mut view, &all, &[], false)[0].contains("no daemon"));
        assert_eq!((press(&mut view, KeyCode::Char('q')), press(&mut view, KeyCode::Esc)), (Told::End, Told::End));
        assert_eq!(view.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Told::End);
        assert_eq!(press(&mut view, KeyCode::Char('c')), Told::Other);
    }

    #[test]
    fn plain_text_has_the_same_rows() {
        let text = table(&[reading("a", 1.0, false), reading("b", 2.0, false)]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 3 && lines[0].starts_with("CONTAINER") && lines[1].starts_with("b ") && lines[2].starts_with("a "), "{text}");
    }

    #[test]
    fn sizes_have_a_unit_that_fits() {
        assert_eq!([bytes(7), bytes(2048), bytes(3 << 20), bytes(5 << 30)], ["7 B", "2.0 KiB", "3.0 MiB", "5.0 GiB"]);
    }
}
