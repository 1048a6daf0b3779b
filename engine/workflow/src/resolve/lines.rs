//! In which line of which file the parts of a step are written: what it has from a template, from `[defaults]` or from an
//! overlay stands there.

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

use crate::capability::{Capability, Grants, HttpGrant, ProgramGrant};
use crate::diagnostic::Lines;
use crate::secret::SecretGrant;
use crate::spec::{HostSpec, ProgramSpec, SecretGrantSpec, Source, Spanned, Spec, StepSpec};
use crate::written::{Places, Written};

/// A file's lines, counted when somebody asks.
pub(super) struct Finder<'a> {
    source: &'a Source,
    spec: &'a Spec,
    known: OnceCell<(Lines, Vec<Arc<str>>)>,
}

impl<'a> Finder<'a> {
    pub(super) fn of(source: &'a Source, spec: &'a Spec) -> Finder<'a> {
        Finder { source, spec, known: OnceCell::new() }
    }

    fn written(&self, span: &Range<usize>) -> Written {
        let (lines, files) = self.known.get_or_init(|| {
            let overlays = self.source.overlays.iter().map(|overlay| beside(&self.source.path, &overlay.path));
            let own = self.source.path.rsplit('/').next().unwrap_or_default().to_owned();
            (Lines::of(&self.source.text), std::iter::once(own).chain(overlays).map(Arc::from).collect())
        });
        let at = self.spec.origins.written(span).start;
        let line = lines.line(at) - lines.line(self.source.file(at).1.start) + 1;
        Written { file: files[self.source.file_number(at)].clone(), line }
    }

    /// Those of a step with these grants, which are what is left of what it writes.
    pub(super) fn of_step(&self, name: &Spanned<String>, spec: &StepSpec, grants: &Grants) -> Places {
        let grant = &spec.grant;
        let mut spans: Vec<Option<Range<usize>>> = Vec::new();
        spans.extend(each(&grant.process, &grants.process, is_program, |written| written.program.span()));
        spans.extend(each(
            &grant.files,
            &grants.files,
            |written, file| *written.path.get_ref() == file.path,
            |written| written.path.span(),
        ));
        spans.extend(each(&grant.http, &grants.http, is_host, |written| written.host.span()));
        spans.extend(each(&grant.env, &grants.env, |written, name| written.get_ref() == name, Spanned::span));
        for whole in Capability::WHOLE.into_iter().filter(|whole| grants.has(whole.word())) {
            let flag = match whole {
                Capability::Clock => &grant.clock,
                Capability::Random => &grant.random,
                Capability::Artifacts => &grant.artifacts,
                Capability::Workspace => &grant.workspace,
                // Granted item by item: the step's own line.
                Capability::Process | Capability::Files | Capability::Http | Capability::Env | Capability::Secrets => {
                    &None
                }
            };
            spans.push(flag.as_ref().map(Spanned::span));
        }
        spans.extend(each(&grant.secrets, &grants.secrets, is_secret, |written| written.name.span()));
        let at = name.span();
        let grants = spans.iter().map(|span| self.written(span.as_ref().unwrap_or(&at))).collect();
        let limit = &spec.limit;
        let limits = [
            ("memory", limit.memory.as_ref().map(Spanned::span)),
            ("table-elements", limit.table_elements.as_ref().map(Spanned::span)),
            ("output", limit.output.as_ref().map(Spanned::span)),
            ("log", limit.log.as_ref().map(Spanned::span)),
            ("process-output", limit.process_output.as_ref().map(Spanned::span)),
            ("artifact", limit.artifact.as_ref().map(Spanned::span)),
            ("process-memory", limit.process_memory.as_ref().map(Spanned::span)),
            ("process-cpu", limit.process_cpu.as_ref().map(Spanned::span)),
            ("process-file", limit.process_file.as_ref().map(Spanned::span)),
            ("processes", limit.processes.as_ref().map(Spanned::span)),
            ("timeout", spec.timeout.as_ref().map(Spanned::span)),
        ];
        let limits = limits.into_iter().filter_map(|(name, span)| Some((name, self.written(&span?)))).collect();
        Places::new(grants, self.written(&at), limits)
    }
}

/// Where each grant of a kind is written. Grants are in the order of the text, without what was told, is there twice, or is not
/// wanted: each is found behind the one before it.
fn each<'w, S, G>(
    list: &'w Option<Spanned<Vec<S>>>,
    grants: &'w [G],
    is_it: impl Fn(&S, &G) -> bool + 'w,
    span: impl Fn(&S) -> Range<usize> + 'w,
) -> impl Iterator<Item = Option<Range<usize>>> + 'w {
    let mut written = list.iter().flat_map(|list| list.get_ref());
    grants.iter().map(move |grant| written.find(|written| is_it(written, grant)).map(&span))
}

fn is_program(written: &ProgramSpec, grant: &ProgramGrant) -> bool {
    let text = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.get_ref().clone());
    // A variable may have been taken away from it.
    let is_env = match (texts(&written.env), &grant.env) {
        (Some(written), Some(left)) => left.iter().all(|name| written.contains(name)),
        (written, left) => written.is_none() && left.is_none(),
    };
    *written.program.get_ref() == grant.program
        && texts(&written.args) == grant.args
        && is_env
        && text(&written.directory) == grant.directory
        && text(&written.digest) == grant.digest
        && (written.network, written.daemons) == (grant.network, grant.daemons)
        && texts(&written.read).unwrap_or_default() == grant.read
}

fn is_host(written: &HostSpec, grant: &HttpGrant) -> bool {
    *written.host.get_ref() == grant.host
        && texts(&written.methods) == grant.methods
        && written.path.as_ref().map(Spanned::get_ref) == grant.path.as_ref()
        && written.private == grant.private
}

fn is_secret(written: &SecretGrantSpec, grant: &SecretGrant) -> bool {
    let flag = |flag: &Option<Spanned<bool>>| flag.as_ref().is_some_and(|flag| *flag.get_ref());
    let text = |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.get_ref().clone());
    *written.name.get_ref() == grant.name
        && text(&written.host) == grant.host
        && text(&written.header).map(|header| header.to_ascii_lowercase()) == grant.header
        && text(&written.env) == grant.env
        && [&written.body, &written.query, &written.path, &written.insecure, &written.reveal].map(flag)
            == [grant.body, grant.query, grant.path, grant.insecure, grant.reveal]
}

fn texts(list: &Option<Spanned<Vec<Spanned<String>>>>) -> Option<Vec<String>> {
    Some(list.as_ref()?.get_ref().iter().map(|text| text.get_ref().clone()).collect())
}

/// The path of an overlay from the folder of the lowest file, both as they are named. Where that can't be told by their text, it
/// stays as it is.
fn beside(lowest: &str, overlay: &str) -> String {
    let plain = |path: &'_ str| path.strip_prefix("./").unwrap_or(path).to_owned();
    let (lowest, overlay) = (plain(lowest), plain(overlay));
    let folder = lowest.rsplit_once('/').map_or("", |(folder, _)| folder);
    if folder.is_empty() && !lowest.starts_with('/') {
        return overlay;
    }
    if let Some(rest) = overlay.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) {
        return rest.to_owned();
    }
    let is_plain = |path: &str| !path.split('/').any(|part| part == ".." || part == "." || part.is_empty());
    match is_plain(folder) && !overlay.starts_with('/') {
        true => "../".repeat(folder.split('/').count()) + &overlay,
        false => overlay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_named_from_the_folder_of_the_file_below() {
        for (lowest, overlay, named) in [
            ("a.toml", "prod.with.toml", "prod.with.toml"),
            ("./a.toml", "./over/x.toml", "over/x.toml"),
            ("flow/a.toml", "flow/prod.with.toml", "prod.with.toml"),
            ("flow/a.toml", "other/x.toml", "../other/x.toml"),
            ("flow/deep/a.toml", "flow/x.toml", "../../flow/x.toml"),
            ("/srv/a.toml", "/srv/x.toml", "x.toml"),
            ("/srv/a.toml", "/etc/x.toml", "/etc/x.toml"),
            ("../flow/a.toml", "x.toml", "x.toml"),
        ] {
            assert_eq!(beside(lowest, overlay), named, "{lowest} {overlay}");
        }
    }
}
