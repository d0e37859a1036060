//! The server's key, kept in a file that only its owner may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use libp2p::identity::Keypair;

/// Reads the key in `path`; `None` if there is no such file.
///
/// # Errors
/// If the file can't be read, holds no key, or may be read by others.
pub(crate) fn load(path: &Path) -> Result<Option<Keypair>, String> {
    let shown = path.display();
    match fs::read(path) {
        Ok(bytes) => {
            check_permissions(path)?;
            let key = Keypair::from_protobuf_encoding(&bytes);
            key.map(Some)
                .map_err(|error| format!("{shown} does not hold a libp2p key: {error}"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("can't read the key in {shown}: {error}")),
    }
}

/// Writes the key to `path`, where there is no file yet.
///
/// # Errors
/// If it can't.
pub(crate) fn save(path: &Path, key: &Keypair) -> Result<(), String> {
    let bytes = key
        .to_protobuf_encoding()
        .map_err(|error| format!("can't encode the new key: {error}"))?;
    write(path, &bytes)
        .map_err(|error| format!("can't write the key to {}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key would stop the next start.
        let _ = fs::remove_file(path);
    }
    written
}

#[cfg(unix)]
fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(not(unix))]
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn check_permissions(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| format!("can't read {shown}: {error}"))?;
    let mode = metadata.permissions().mode() & 0o777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(format!(
            "others may read or write the key in {shown} (mode {mode:o}). If nobody has, run: chmod 600 {shown}"
        )),
    }
}

#[cfg(not(unix))]
fn check_permissions(_: &Path) -> Result<(), String> {
    Ok(())
}
