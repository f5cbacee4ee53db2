//! Making certificates, and reading back what was made.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::X509Certificate;

use super::plan::{Action, Facts, Lifetimes, Validity};

/// What could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate library's refusal.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    /// A time that certificates cannot hold.
    #[error("cannot date a certificate")]
    Date(#[source] time::error::ComponentRange),
    /// A step that needs something that is not there.
    #[error("there is no announced authority to promote")]
    NothingAnnounced,
}

/// A certificate with its key, both PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// Everything in the Secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Store {
    /// The authority that signs (`ca.crt`, `ca.key`).
    pub authority: Pair,
    /// The announced one (`next-ca.crt`, `next-ca.key`); empty most of the time.
    pub next: Pair,
    /// The certificate of the one before (`previous-ca.crt`); empty most of the time.
    pub previous: String,
    /// What is served (`tls.crt`, `tls.key`).
    pub leaf: Pair,
}

impl Store {
    /// All authorities that the API server has to trust, PEM: the signing one, the next, the one before.
    pub fn bundle(&self) -> String {
        [&self.authority.certificate, &self.next.certificate, &self.previous]
            .into_iter()
            .map(String::as_str)
            .collect()
    }

    /// What [`super::plan::next`] needs to know. Certificates that cannot be read count as absent.
    pub fn facts(&self, names: &[String], announced: bool) -> Facts {
        let usable = |pair: &Pair| validity(&pair.certificate).filter(|_| issuer(pair).is_ok());
        Facts {
            authority: usable(&self.authority),
            next: usable(&self.next),
            previous: validity(&self.previous),
            leaf: validity(&self.leaf.certificate)
                .filter(|_| KeyPair::from_pem(&self.leaf.key).is_ok() && self.leaf_fits(names)),
            announced,
        }
    }

    /// Whether the leaf is signed by the authority and for exactly these names.
    fn leaf_fits(&self, names: &[String]) -> bool {
        with_certificate(&self.authority.certificate, |authority| {
            with_certificate(&self.leaf.certificate, |leaf| {
                let signed = leaf.verify_signature(Some(authority.public_key())).is_ok();
                let found = leaf.subject_alternative_name().ok().flatten();
                let found =
                    found.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
                signed
                    && found.len() == names.len()
                    && names.iter().all(|name| found.contains(&GeneralName::DNSName(name)))
            })
        })
        .flatten()
        .unwrap_or(false)
    }

    /// Carries out one step.
    ///
    /// # Errors
    /// A certificate could not be made.
    pub fn after(
        &self,
        action: Action,
        now: i64,
        names: &[String],
        life: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        let mut store = self.clone();
        match action {
            Action::Nothing => {}
            Action::Found => {
                store = Self { authority: make_authority(now, life)?, ..Self::default() };
                store.leaf = make_leaf(&store.authority, now, names, life)?;
            }
            Action::Issue => store.leaf = make_leaf(&store.authority, now, names, life)?,
            Action::Announce => store.next = make_authority(now, life)?,
            Action::Promote => {
                if store.next.certificate.is_empty() {
                    return Err(AuthorityError::NothingAnnounced);
                }
                store.previous = std::mem::take(&mut store.authority).certificate;
                store.authority = std::mem::take(&mut store.next);
                store.leaf = make_leaf(&store.authority, now, names, life)?;
            }
            Action::Forget => store.previous.clear(),
        }
        Ok(store)
    }
}

fn dated(now: i64, life: i64, backdate: i64) -> Result<CertificateParams, AuthorityError> {
    let at = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).map_err(AuthorityError::Date);
    let mut params = CertificateParams::default();
    params.not_before = at(now.saturating_sub(backdate))?;
    params.not_after = at(now.saturating_add(life))?;
    Ok(params)
}

fn make_authority(now: i64, life: &Lifetimes) -> Result<Pair, AuthorityError> {
    let mut params = dated(now, life.authority, life.backdate)?;
    // Two authorities in one bundle must not have one name, or chains are built over the wrong one.
    params.distinguished_name.push(DnType::CommonName, format!("portwright-injector CA {now}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(AuthorityError::Make)?;
    let certificate = params.self_signed(&key).map_err(AuthorityError::Make)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn make_leaf(authority: &Pair, now: i64, names: &[String], life: &Lifetimes) -> Result<Pair, AuthorityError> {
    let mut params = dated(now, life.leaf, life.backdate)?;
    for name in names {
        let name = name.as_str().try_into().map_err(AuthorityError::Make)?;
        params.subject_alt_names.push(rcgen::SanType::DnsName(name));
    }
    params.distinguished_name.push(DnType::CommonName, "portwright-injector");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(AuthorityError::Make)?;
    let certificate = params.signed_by(&key, &issuer(authority)?).map_err(AuthorityError::Make)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn issuer(pair: &Pair) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
    let key = KeyPair::from_pem(&pair.key).map_err(AuthorityError::Make)?;
    Issuer::from_ca_cert_pem(&pair.certificate, key).map_err(AuthorityError::Make)
}

fn validity(pem: &str) -> Option<Validity> {
    with_certificate(pem, |certificate| Validity {
        from: certificate.validity().not_before.timestamp(),
        until: certificate.validity().not_after.timestamp(),
    })
}

fn with_certificate<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Some(look(&certificate))
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Action, Lifetimes, next};
    use super::{AuthorityError, Store};

    fn names() -> Vec<String> {
        vec!["svc.ns.svc".to_owned()]
    }

    /// Plays years of reconciliations, one per day, and looks at the bundle and the leaf at every step.
    #[test]
    fn a_leaf_is_always_covered_by_the_bundle_of_the_day_before() -> Result<(), AuthorityError> {
        let day = 86_400;
        let life =
            Lifetimes { authority: 300 * day, leaf: 30 * day, settle: 600, overlap: day, backdate: 300 };
        let mut store = Store::default();
        let mut announced = String::new();
        let (mut rotations, mut leaves) = (0, 0);
        for today in (0..700).map(|day_number| 1_800_000_000 + day_number * day) {
            loop {
                let action = next(today, &store.facts(&names(), announced == store.bundle()), &life);
                if action == Action::Nothing {
                    break;
                }
                if matches!(action, Action::Promote) {
                    assert!(announced.contains(&store.next.certificate), "signed before it was announced");
                    rotations += 1;
                }
                leaves += i32::from(matches!(action, Action::Issue));
                store = store.after(action, today, &names(), &life)?;
                if !matches!(action, Action::Found) {
                    assert!(
                        announced.contains(&store.authority.certificate),
                        "{action:?}: leaf from an unknown authority"
                    );
                }
                assert!(store.facts(&names(), false).leaf.is_some(), "{action:?}: the leaf does not fit");
            }
            announced = store.bundle();
        }
        assert_eq!(rotations, 3);
        assert!(leaves > 25, "{leaves}");
        Ok(())
    }

    #[test]
    fn what_was_tampered_with_is_made_anew() -> Result<(), AuthorityError> {
        let life = Lifetimes::default();
        let now = 1_800_000_000;
        let good = Store::default().after(Action::Found, now, &names(), &life)?;
        let other = Store::default().after(Action::Found, now, &names(), &life)?;
        let decide = |store: &Store, names: &[String]| next(now, &store.facts(names, true), &life);
        assert_eq!(decide(&good, &names()), Action::Nothing);
        assert_eq!(decide(&good, &["other".to_owned()]), Action::Issue);
        let mut bad = good.clone();
        bad.leaf = other.leaf;
        assert_eq!(decide(&bad, &names()), Action::Issue, "a leaf of another authority");
        let mut bad = good.clone();
        bad.authority.key.clear();
        assert_eq!(decide(&bad, &names()), Action::Found);
        Ok(())
    }
}
