//! Reading apt's own source lists, so that the entry for backports uses whatever mirror this machine uses.
//!
//! Both formats of sources.list(5) are understood: one line per source, and deb822 paragraphs. Everything here is a
//! pure function of text; `setup` reads and writes the files.

/// An enabled binary source of apt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Source {
    /// Base addresses.
    pub(crate) uris: Vec<String>,
    /// Suites, such as `bookworm` and `bookworm-updates`.
    pub(crate) suites: Vec<String>,
    /// Components, such as `main`.
    pub(crate) components: Vec<String>,
    /// Keyring file, or an embedded key with its line structure kept.
    pub(crate) signed_by: Option<String>,
}

/// The enabled `deb` sources of a file; `deb822` says which of the two formats it has.
pub(crate) fn parse(text: &str, deb822: bool) -> Vec<Source> {
    if deb822 {
        paragraphs(text).iter().filter_map(|fields| from_fields(fields)).collect()
    } else {
        text.lines().filter_map(from_line).collect()
    }
}

/// The first source that carries exactly this suite: the machine's own Debian archive.
pub(crate) fn carrying<'a>(sources: &'a [Source], suite: &str) -> Option<&'a Source> {
    sources.iter().find(|source| source.suites.iter().any(|have| have == suite))
}

/// The deb822 paragraph for another suite of the same archive: same address, same key, component main.
pub(crate) fn entry(source: &Source, suite: &str) -> String {
    let mut text =
        format!("Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n", source.uris.join(" "));
    if let Some(key) = &source.signed_by {
        text.push_str(&format!("Signed-By: {key}\n"));
    }
    text
}

type Field = (String, String);

fn paragraphs(text: &str) -> Vec<Vec<Field>> {
    let mut all = Vec::new();
    let mut current: Vec<Field> = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            all.push(std::mem::take(&mut current));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = current.last_mut() {
                // A continuation line; an embedded key needs it on a line of its own.
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            current.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    all.push(current);
    all.retain(|fields| !fields.is_empty());
    all
}

fn from_fields(fields: &[Field]) -> Option<Source> {
    let get = |name: &str| fields.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str());
    let words = |name: &str| get(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let enabled = !get("enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
    let binary = get("types").unwrap_or_default().split_whitespace().any(|kind| kind == "deb");
    let source = Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: get("signed-by").map(str::to_owned),
    };
    (enabled && binary && !source.uris.is_empty()).then_some(source)
}

/// `deb [option=value …] uri suite [component …]`.
fn from_line(line: &str) -> Option<Source> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut signed_by = None;
    if let Some(open) = rest.strip_prefix('[') {
        let (options, after) = open.split_once(']')?;
        signed_by = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(|value| value.replace(',', " "));
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    let uri = words.next()?;
    let suite = words.next()?;
    Some(Source { uris: vec![uri], suites: vec![suite], components: words.collect(), signed_by })
}

#[cfg(test)]
mod tests {
    use super::{Source, carrying, entry, parse};

    fn source(uri: &str, suites: &[&str], key: Option<&str>) -> Source {
        Source {
            uris: vec![uri.to_owned()],
            suites: suites.iter().map(|suite| (*suite).to_owned()).collect(),
            components: vec!["main".to_owned()],
            signed_by: key.map(str::to_owned),
        }
    }

    #[test]
    fn deb822_with_comments_disabled_and_source_only_paragraphs() {
        let text = "Types: deb\n# a comment inside\nURIs: http://mirror.test/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k/debian.gpg\n\n\
                    Types: deb-src\nURIs: http://src.test/debian\nSuites: bookworm\nComponents: main\n\n\
                    Enabled: no\nTypes: deb\nURIs: http://off.test/debian\nSuites: bookworm\nComponents: main\n";
        let want =
            source("http://mirror.test/debian", &["bookworm", "bookworm-updates"], Some("/k/debian.gpg"));
        assert_eq!(parse(text, true), [want]);
    }

    #[test]
    fn an_embedded_key_keeps_its_lines() {
        let text = "Types: deb\nURIs: https://m.test/d\nSuites: bookworm\nComponents: main\n\
                    Signed-By:\n -----BEGIN KEY-----\n .\n abc\n -----END KEY-----\n";
        let parsed = parse(text, true);
        let made = entry(parsed.first().expect("one source"), "bookworm-backports");
        assert!(
            made.ends_with("Signed-By: \n -----BEGIN KEY-----\n .\n abc\n -----END KEY-----\n"),
            "{made}"
        );
    }

    #[test]
    fn one_line_format() {
        let cases: [(&str, Option<Source>); 7] = [
            ("deb http://m.test/d bookworm main", Some(source("http://m.test/d", &["bookworm"], None))),
            (
                "deb [arch=amd64 signed-by=/k/a.gpg] http://m.test/d bookworm main # why",
                Some(source("http://m.test/d", &["bookworm"], Some("/k/a.gpg"))),
            ),
            ("# deb http://m.test/d bookworm main", None),
            ("deb-src http://m.test/d bookworm main", None),
            ("deb [broken http://m.test/d bookworm", None),
            ("deb http://m.test/d", None),
            ("", None),
        ];
        for (line, want) in cases {
            assert_eq!(parse(line, false), want.into_iter().collect::<Vec<_>>(), "{line}");
        }
    }

    #[test]
    fn the_backports_entry_has_the_machines_address_and_key() {
        let sources = [
            source("http://sec.test/d", &["bookworm-security"], None),
            source("http://m.test/d", &["bookworm", "bookworm-updates"], Some("/k/a.gpg")),
        ];
        let own = carrying(&sources, "bookworm").expect("found");
        assert_eq!(
            entry(own, "bookworm-backports"),
            "Types: deb\nURIs: http://m.test/d\nSuites: bookworm-backports\nComponents: main\nSigned-By: /k/a.gpg\n"
        );
        assert_eq!(carrying(&sources, "trixie"), None);
    }
}
