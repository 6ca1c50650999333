//! `eqprop-cuda report`

use super::compare::{self, Line};
use super::differences;
use super::runs::{self, Run};
use super::say;
use super::table::duration;
use crate::config::UsageError;
use crate::plot::{self, MOST_CURVES, Style};
use crate::run::{RunFolder, atomic};
use anyhow::{Result, ensure};
use clap::Args;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write one page with curves, tables, settings and environment of runs
///
/// The page is a single HTML file that needs no network. Runs that differ only in the seed are taken together: their curves are
/// means with bands, their accuracies have a standard deviation and a 95 % confidence interval by Student's t.
#[derive(Args)]
pub struct ReportArgs {
    /// Folders of runs; others are skipped with a word
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// File to write
    #[arg(long, value_name = "FILE.html")]
    output: PathBuf,
    /// Title of the page
    #[arg(long, value_name = "TEXT", default_value = "Training runs")]
    title: String,
}

const STYLE: &str = "body{font:15px/1.5 'DejaVu Sans',Verdana,sans-serif;color:#262626;max-width:1400px;margin:2em auto;padding:0 1em}\
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em}svg{max-width:100%;height:auto}\
table{border-collapse:collapse;font-size:.82em;display:block;overflow-x:auto}\
th,td{border-bottom:1px solid #dedede;padding:.3em .6em;text-align:left;vertical-align:top;min-width:4.5em}\
.w th,.w td{overflow-wrap:anywhere}td:first-child,.n{white-space:nowrap}th.n,td.n{text-align:right;min-width:0}\
td.l{min-width:20em}tr:hover td{background:#f5f5f5}td.d,tr:hover td.d{background:#fff3da}";

/// Bytes of a text that needs a broad column: a command.
const LONG: usize = 80;

pub fn run(args: &ReportArgs) -> Result<ExitCode> {
    let groups = runs::groups(compare::read(&args.runs)?);
    ensure!(
        groups.len() <= MOST_CURVES,
        UsageError(format!(
            "{} kinds of runs in one picture cannot be told apart; name runs of at most {MOST_CURVES} kinds",
            groups.len()
        ))
    );
    let page = page(&args.title, groups)?;
    atomic::replace(&args.output, page.as_bytes())?;
    say(args.output.display());
    Ok(ExitCode::SUCCESS)
}

fn page(title: &str, groups: Vec<Vec<Run>>) -> Result<String> {
    let title = escaped(title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n"
    );
    page += &results(&groups);
    page += &each_run(&groups);
    let settings = settings(&groups);
    let environment = environment(&groups);
    let style = Style {
        title: Some(String::new()),
        ..Style::default()
    };
    let figure = plot::learning_curves(&differences::curves(groups), &style)?;
    // Within a page no declaration of a document of its own.
    let svg = figure.svg();
    let svg = svg.find("<svg").map_or(svg, |start| &svg[start..]);
    let _ = write!(page, "<h2>Learning curves</h2>\n{svg}\n");
    page += &settings;
    page += &environment;
    page += "</body>\n</html>\n";
    Ok(page)
}

fn results(groups: &[Vec<Run>]) -> String {
    let lines: Vec<Line> = groups.iter().map(|group| Line::of(group)).collect();
    let mut heads = vec![
        "run",
        "algorithm",
        "network",
        "dataset",
        "runs",
        "epochs",
        "test accuracy",
    ];
    heads.extend(["std", "95 % interval", "time", "per epoch", "peak memory"]);
    let rows = lines
        .iter()
        .map(|line| line.cells(true))
        .collect::<Vec<_>>();
    let rows: Vec<Vec<Cell>> = rows
        .iter()
        .map(|row| row.iter().map(|c| cell(c)).collect())
        .collect();
    section(
        "Results",
        "Test accuracy is that of the epoch with the smallest test error, mean over the runs; the interval is the 95 % confidence \
         interval of the mean by Student's t.",
        &heads,
        &rows,
        4,
    )
}

fn each_run(groups: &[Vec<Run>]) -> String {
    let heads = [
        "run",
        "seed",
        "epochs",
        "best error",
        "in epoch",
        "last error",
        "time",
    ];
    let percent = |error: f64| format!("{:.2} %", 100.0 * error);
    let rows = groups.iter().flatten().map(|run| {
        let seconds = run
            .records
            .iter()
            .map(|r| r.train.seconds + r.test.seconds)
            .sum();
        let cells = [
            run.name.clone(),
            run.setting("seed"),
            run.records.len().to_string(),
            run.best()
                .map_or(String::new(), |r| percent(r.test.top1_error)),
            run.best().map_or(String::new(), |r| r.epoch.to_string()),
            run.records
                .last()
                .map_or(String::new(), |r| percent(r.test.top1_error)),
            duration(seconds),
        ];
        cells.iter().map(|c| cell(c)).collect()
    });
    section("Runs", "", &heads, &rows.collect::<Vec<_>>(), 1)
}

/// A column for each kind of run; what differs is marked.
fn settings(groups: &[Vec<Run>]) -> String {
    let firsts: Vec<&Run> = groups.iter().map(|group| &group[0]).collect();
    let keys: BTreeSet<&String> = firsts.iter().flat_map(|run| run.settings.keys()).collect();
    let mut heads = vec!["setting"];
    heads.extend(firsts.iter().map(|run| run.name.as_str()));
    let rows = keys.into_iter().map(|key| {
        let values: Vec<String> = firsts.iter().map(|run| run.setting(key)).collect();
        let marked = values.iter().any(|v| *v != values[0]);
        let mut row = vec![cell(key)];
        row.extend(values.iter().map(|text| Cell {
            marked,
            ..cell(text)
        }));
        row
    });
    section(
        "Settings",
        "Of the first run of each kind; what differs is marked.",
        &heads,
        &rows.collect::<Vec<_>>(),
        heads.len(),
    )
}

fn environment(groups: &[Vec<Run>]) -> String {
    let heads = [
        "run",
        "version",
        "command",
        "host",
        "cpu",
        "device",
        "training images",
        "test images",
    ];
    let rows = groups.iter().flatten().filter_map(|run| {
        let e = RunFolder::environment(&run.folder)?;
        let cells = [
            run.name.clone(),
            e.version,
            e.command.join(" "),
            e.host,
            format!("{}, {} threads", e.cpu, e.threads),
            e.device,
            e.training_images,
            e.test_images,
        ];
        Some(cells.iter().map(|c| cell(c)).collect())
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    let note = match rows.is_empty() {
        true => "These runs do not say: they were made by an older version.",
        false => "As each run was begun; images by the MD5 of all that were used.",
    };
    section("Environment", note, &heads, &rows, heads.len())
}

struct Cell {
    text: String,
    marked: bool,
}

fn cell(text: &str) -> Cell {
    Cell {
        text: text.to_string(),
        marked: false,
    }
}

/// A heading, a note, and a table whose columns from `numbers` on are to the right.
fn section(title: &str, note: &str, heads: &[&str], rows: &[Vec<Cell>], numbers: usize) -> String {
    let mut text = format!("<h2>{title}</h2>\n");
    if !note.is_empty() {
        let _ = writeln!(text, "<p>{}</p>", escaped(note));
    }
    // Columns of text share the width, those of numbers take what they need.
    let class = if numbers < heads.len() {
        ""
    } else {
        " class=\"w\""
    };
    let _ = write!(text, "<table{class}>\n<tr>");
    for (c, head) in heads.iter().enumerate() {
        let class = if c < numbers { "" } else { " class=\"n\"" };
        let _ = write!(text, "<th{class}>{}</th>", escaped(head));
    }
    text += "</tr>\n";
    for row in rows {
        text += "<tr>";
        for (c, cell) in row.iter().enumerate() {
            let class = match (cell.marked, c < numbers, cell.text.len() > LONG) {
                (true, ..) => " class=\"d\"",
                (false, false, _) => " class=\"n\"",
                (false, true, true) => " class=\"l\"",
                (false, true, false) => "",
            };
            let _ = write!(text, "<td{class}>{}</td>", escaped(&cell.text));
        }
        text += "</tr>\n";
    }
    text + "</table>\n"
}

/// As text of a page: what a folder or a file is called must not become part of it.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() => safe.push('�'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_become_part_of_the_page() {
        assert_eq!(escaped("<script>\"&\u{1b}"), "&lt;script&gt;&quot;&amp;�");
    }
}
