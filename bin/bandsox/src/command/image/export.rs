//! `bandsox image export`

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use bandsox_oci::{Destination, ExportError, Output, Pick, Source};
use bandsox_store::Store;

use crate::failure::{Explain as _, Failure};
use crate::images;
use crate::output::Ui;

/// Write an image out for other programs
///
/// The same image gives the same bytes. What was imported from a disk, a directory or a tar of a root
/// file system has no layers and cannot be exported. A FILE appears when it is whole.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  bandsox image export web oci:./layout:latest
  bandsox image export web oci-archive:web.tar
  bandsox image export web docker-archive:- | docker load")]
pub(crate) struct ExportArgs {
    /// Image, by name or digest
    #[arg(value_name = "IMAGE")]
    image: String,

    /// `oci:DIR[:TAG]`, `oci-archive:FILE` or `docker-archive:FILE`; FILE may be `-` for standard output
    #[arg(value_name = "DESTINATION", value_parser = destination)]
    to: Destination,
}

pub(super) fn run(ui: &Ui, store: &Store, args: &ExportArgs) -> Result<(), Failure> {
    let ExportArgs { image, to } = args;
    let cannot = || format!("cannot export image {}", images::quoted(image));
    if is_stdout(to) && io::stdout().is_terminal() {
        return Err(Failure::new("an archive is nothing for a terminal")
            .hint("send it to a file or a program: … docker-archive:- | docker load")
            .context(cannot()));
    }
    images::open(store)?
        .export(image, &std::env::current_dir()?, to)
        .map_err(|error| {
            let unknown = matches!(error, ExportError::Resolve(_));
            let hint = unknown.then(|| "`bandsox image ls` shows all images".to_owned());
            Failure::from(error).hint_if(hint)
        })
        .context(cannot())?;
    ui.message(format!("Exported image {}", images::quoted(image)));
    Ok(())
}

fn is_stdout(to: &Destination) -> bool {
    use Destination::{DockerArchive, OciArchive};
    matches!(to, OciArchive(Output::Stdout) | DockerArchive(Output::Stdout))
}

/// Reads where to write.
fn destination(text: &str) -> Result<Destination, String> {
    let wants = "want oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE";
    let (kind, rest) = text.split_once(':').ok_or(wants)?;
    if rest.is_empty() {
        return Err(format!("{kind}: wants a path behind it"));
    }
    let output = || match rest {
        "-" => Output::Stdout,
        path => Output::File(PathBuf::from(path)),
    };
    match kind {
        "oci" => {
            let source = Source::of_host(text, Path::new("")).map_err(|error| error.to_string())?;
            let Source::Layout { dir, pick } = source else { return Err(wants.to_owned()) };
            if pick == Pick::Only {
                Ok(Destination::Layout { dir, tag: None })
            } else if let Pick::Name(tag) = pick {
                Ok(Destination::Layout { dir, tag: Some(tag) })
            } else {
                Err(format!("a digest is no name; {wants}"))
            }
        }
        "oci-archive" => Ok(Destination::OciArchive(output())),
        "docker-archive" => Ok(Destination::DockerArchive(output())),
        _ => Err(wants.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_kind_a_path_and_perhaps_a_tag() {
        let layout = |dir: &str, tag: Option<&str>| {
            Ok(Destination::Layout { dir: dir.into(), tag: tag.map(str::to_owned) })
        };
        assert_eq!(destination("oci:d:1.0"), layout("d", Some("1.0")));
        assert_eq!(destination("oci:d:name/x:1.0"), layout("d", Some("name/x:1.0")));
        assert_eq!(destination("oci-archive:-"), Ok(Destination::OciArchive(Output::Stdout)));
        for bad in ["x.tar", "oci:", "tar:x", "oci:d:a b"] {
            destination(bad).expect_err(bad);
        }
    }
}
