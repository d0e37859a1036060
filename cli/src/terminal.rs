//! What is written to the terminal: escaped, since peers choose much of it, and in colours where those are wanted.
//!
//! It must never let a character through that a terminal acts on.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const UNSURE: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const HEADING: Style = Style::new().bold();
pub(crate) const ASIDE: Style = Style::new().dimmed();

pub(crate) fn set_color(choice: clap::ColorChoice) {
    let choice = match choice {
        clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
        clap::ColorChoice::Always => anstream::ColorChoice::Always,
        clap::ColorChoice::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
}

/// `text` on one line, with an escape in place of each character that is not to be seen: control characters, those that
/// change the direction of writing, those without width. A backslash is doubled, so that no text looks like an escape.
pub(crate) fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// One line of JSON in ASCII: what it holds is exact, and a terminal sees no more than letters.
pub(crate) fn json(value: &Value) -> String {
    let mut ascii = String::new();
    for c in value.to_string().chars() {
        // Outside of its strings JSON has no such characters.
        if c == '\u{7f}' || !c.is_ascii() {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        } else {
            ascii.push(c);
        }
    }
    ascii
}

/// Writes to standard output, without its colours unless they are wanted there. Whoever closed it wants to read no more.
pub(crate) fn print(text: &str) {
    let _ = anstream::stdout().write_all(text.as_bytes());
}

/// A line on standard error, escaped but for its line breaks.
pub(crate) fn complain(text: &str) {
    let lines: Vec<String> = text.lines().map(escape).collect();
    let text = lines.join("\n");
    let _ = writeln!(anstream::stderr(), "{BAD}error:{BAD:#} {text}");
}

/// Whether standard error is watched by a person who may be shown what changes.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// `text` as standard error shows it.
pub(crate) fn for_stderr(text: &str) -> String {
    match anstream::AutoStream::choice(&io::stderr()) {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(text).to_string(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str =
        "/dns4/\u{1b}]0;owned\u{7}\u{1b}[2J\r\n\u{9b}31m\u{202e}txt\u{200b}\u{feff}\u{7f}/tcp/1";

    fn is_plain(c: char) -> bool {
        matches!(c, ' '..='~')
    }

    #[test]
    fn nothing_that_a_terminal_acts_on_gets_through() {
        let shown = escape(NASTY);
        assert!(shown.chars().all(is_plain), "{shown}");
        assert!(
            shown.starts_with("/dns4/\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\r\\n\\u{9b}31m"),
            "{shown}"
        );
        for c in ('\0'..='\u{9f}').filter(|c| c.is_control()) {
            assert!(escape(&c.to_string()).chars().all(is_plain), "{c:?}");
        }
    }

    #[test]
    fn what_can_be_seen_stays_as_it_is() {
        for text in ["/ip4/1.2.3.4/tcp/1", "it's \"quoted\"", "Köln, 東京"] {
            assert_eq!(escape(text), text);
        }
        assert_ne!(escape("\\u{1b}"), escape("\u{1b}"));
    }

    #[test]
    fn json_is_ascii_and_exact() {
        let value = serde_json::json!({ NASTY: [NASTY, "😀", "Köln"] });
        let text = json(&value);
        assert!(text.chars().all(is_plain), "{text}");
        assert_eq!(
            serde_json::from_str::<Value>(&text).expect("it is JSON"),
            value
        );
    }
}
