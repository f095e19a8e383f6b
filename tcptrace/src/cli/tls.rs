//! Files that say who may speak to whom: tokens, certificates, and what encrypts.

use std::{fmt::Display, fs, io, path::Path, sync::Arc};

use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{
    exit::Failure,
    serve::{client::unverified::Unverified, guard},
};

/// What is spoken, as TLS calls it (ALPN).
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// Who is trusted to be who was meant.
pub enum Trust {
    /// Whom one of these vouches for.
    Roots(Arc<RootCertStore>),
    /// Whoever answers.
    Anybody,
}

/// How connections that go out are encrypted.
pub fn client(
    provider: Arc<CryptoProvider>,
    trust: Trust,
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, tokio_rustls::rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let config = match trust {
        Trust::Roots(roots) => config.with_root_certificates(roots),
        Trust::Anybody => {
            config.dangerous().with_custom_certificate_verifier(Arc::new(Unverified::new(provider)))
        }
    };
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// What a file holds; `flag`: by which it was named.
pub fn read(flag: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|e| wrong(flag, path, unreadable(&e)))
}

/// Why a file can't be read. A command that runs has given rights up, those over other people's
/// files among them.
pub fn unreadable(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "{e}; it is read by uid {}: that user must own it, or anybody be allowed to read it",
            rustix::process::geteuid().as_raw()
        ),
        _ => e.to_string(),
    }
}

/// What is wrong with it.
pub fn wrong(flag: &str, path: &Path, problem: impl Display) -> Failure {
    Failure::usage(format!("{flag} {}: {problem}", path.display()))
}

/// The certificates of a file, one at least.
pub fn certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let text = read(flag, path)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match list {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(wrong(flag, path, "no certificate in PEM in it")),
        Err(e) => Err(wrong(flag, path, format!("no certificates in PEM: {e}"))),
    }
}

/// The same, as those that vouch for others.
pub fn roots(flag: &str, path: &Path) -> Result<Arc<RootCertStore>, Failure> {
    let mut roots = RootCertStore::empty();
    for root in certificates(flag, path)? {
        roots.add(root).map_err(|e| wrong(flag, path, e))?;
    }
    Ok(Arc::new(roots))
}

/// What encrypts, where this processor can; `instead`: what else to do, for who named that file.
pub fn provider(flag: &str, path: &Path, instead: &str) -> Result<Arc<CryptoProvider>, Failure> {
    if can_encrypt() {
        return Ok(Arc::new(rustls_graviola::default_provider()));
    }
    let needs = "TLS needs a processor with AES, and on x86 AVX2 and ADX (2014 and later)";
    Err(wrong(flag, path, format!("{needs}; {instead}")))
}

/// Whether this processor has what the TLS library is written for. The library is assembly and
/// Rust: others need a C compiler wherever this is built.
fn can_encrypt() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("adx")
        && is_x86_feature_detected!("avx2");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
        && std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// A file's text with one token at least.
pub fn tokens(flag: &str, path: &Path) -> Result<String, Failure> {
    let text = String::from_utf8_lossy(&read(flag, path)?).into_owned();
    if guard::tokens(&text).next().is_none() {
        return Err(wrong(flag, path, "no token in it; write one, a line of its own"));
    }
    Ok(text)
}
