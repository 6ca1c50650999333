//! Tables for people and for programs.

use super::output::say;

/// Prints rows under their heads: columns from `numbers` on to the right, the others to the left.
pub fn print(heads: &[&str], rows: &[Vec<String>], numbers: usize) {
    let width = |c: usize| {
        let cells = rows.iter().map(|row| row[c].chars().count());
        cells.max().unwrap_or(0).max(heads[c].chars().count())
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).enumerate();
        let cells = cells.map(|(c, (text, &width))| match c < numbers {
            true => format!("{text:<width$}"),
            false => format!("{text:>width$}"),
        });
        say(cells.collect::<Vec<_>>().join("   ").trim_end());
    };
    line(&mut heads.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}

/// A line of comma-separated values (RFC 4180), with its end.
pub fn csv_line(cells: &[&str]) -> String {
    let cells = cells
        .iter()
        .map(|cell| match cell.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.to_string(),
        });
    cells.collect::<Vec<_>>().join(",") + "\n"
}

/// `75.3 s`, `12 min 05 s`, `30 h 02 min`
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..120 => format!("{seconds:.1} s"),
        120..7200 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_are_quoted() {
        assert_eq!(csv_line(&["a", "b,c", "d\"e"]), "a,\"b,c\",\"d\"\"e\"\n");
    }
}
