//! The options in a TOML file, under their own names: `requests-per-peer = 20` stands for `--requests-per-peer 20`, `true` for
//! an option without a value, a list for an option that is given several times. What the command line says goes before.
//!
//! Each entry becomes an argument, so that its value is checked as on the command line.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use clap::{ArgMatches, Command, parser::ValueSource};
use toml::{Table, Value};

/// Longer files are no configurations.
const MAX_LEN: u64 = 1 << 20;

/// The file that `--config` names, and the arguments that it stands for.
///
/// # Errors
/// If the file can't be read, is not TOML, or has an entry that no argument stands for.
pub(crate) fn arguments<'a>(
    given: &'a ArgMatches,
    command: &Command,
) -> Result<Option<(&'a PathBuf, Vec<OsString>)>, String> {
    let Some(path) = given.get_one::<PathBuf>("config") else {
        return Ok(None);
    };
    let shown = path.display();
    let text = read(path).map_err(|error| format!("can't read {shown}: {error}"))?;
    let table: Table = text
        .parse()
        .map_err(|error| format!("{shown} is not TOML: {}", trim(&error)))?;
    let mut arguments = Vec::new();
    for (name, value) in &table {
        if matches!(name.as_str(), "config" | "help" | "version" | "color") {
            return Err(format!(
                "in {shown}: {name} can be said on the command line only"
            ));
        }
        let mut known = command.get_arguments();
        let Some(option) = known.find(|option| option.get_long() == Some(name)) else {
            // The complaint about it says what was meant.
            arguments.push(OsString::from(format!("--{name}")));
            continue;
        };
        if given.value_source(option.get_id().as_str()) != Some(ValueSource::CommandLine) {
            let options = options(name, value);
            arguments.extend(options.map_err(|mistake| format!("in {shown}: {mistake}"))?);
        }
    }
    Ok(Some((path, arguments)))
}

fn read(path: &Path) -> std::io::Result<String> {
    if fs::metadata(path)?.len() > MAX_LEN {
        return Err(std::io::Error::other("it is too large for a configuration"));
    }
    fs::read_to_string(path)
}

fn trim(error: &toml::de::Error) -> String {
    error.to_string().trim_end().to_owned()
}

fn options(name: &str, value: &Value) -> Result<Vec<OsString>, String> {
    let with = |text: &str| OsString::from(format!("--{name}={text}"));
    Ok(match value {
        Value::String(text) => vec![with(text)],
        Value::Integer(number) => vec![with(&number.to_string())],
        Value::Boolean(true) => vec![OsString::from(format!("--{name}"))],
        Value::Boolean(false) => Vec::new(),
        Value::Array(values) => {
            let mut all = Vec::new();
            for value in values {
                if matches!(value, Value::Array(_)) {
                    return Err(format!("{name} is a list of lists"));
                }
                all.extend(options(name, value)?);
            }
            all
        }
        Value::Table(_) => {
            return Err(format!(
                "{name} is a table: the options stand outside of tables"
            ));
        }
        Value::Float(_) | Value::Datetime(_) => {
            return Err(format!(
                "{name} must be text, a whole number, true, false or a list of those"
            ));
        }
    })
}
