//! TLS served directly: a certificate that can be replaced while connections are served.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig, crypto,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use super::validity::Validity;

/// Where the certificate chain and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why a certificate is of no use. What is in the files is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} holds no private key in PEM that can be used", .0.display())]
    NoKey(PathBuf),
    #[error("the certificate in {} is not for the key in {}", .0.certificate.display(), .0.key.display())]
    OtherKey(TlsFiles),
    #[error("TLS cannot be set up")]
    SetUp(#[source] rustls::Error),
}

/// What became of looking at the files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// They hold what is served already.
    Same,
    /// Connections from now on have the new certificate.
    Replaced,
}

/// The certificate that is served.
pub struct Tls {
    files: TlsFiles,
    served: RwLock<Served>,
}

struct Served {
    certified: Arc<CertifiedKey>,
    /// Of the files that it came from.
    digest: [u8; 32],
}

/// What the files hold.
struct Pem {
    certificate: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
}

impl Tls {
    /// Reads the files, which must be of use.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let served = Pem::read(&files)?.served(&files)?;
        Ok(Self { served: RwLock::new(served), files })
    }

    /// Reads the files again. What is of no use changes nothing: connections go on being served with
    /// the certificate that there is.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let pem = Pem::read(&self.files)?;
        let is_same = |served: &Served| served.digest == pem.digest();
        if is_same(&self.served.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(Reloaded::Same);
        }
        let served = pem.served(&self.files)?;
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = served;
        Ok(Reloaded::Replaced)
    }

    /// From when until when the certificate itself is good, not those that vouch for it; none if it does not say so in a
    /// way that is known here.
    pub fn validity(&self) -> Option<Validity> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        Validity::of(served.certified.end_entity_cert().ok()?)
    }

    /// What shakes hands.
    pub(super) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::SetUp)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(self))));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Hands the certificate out, whatever name is asked for.
#[derive(Debug)]
struct Resolver(Arc<Tls>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let served = self.0.served.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&served.certified))
    }
}

impl Pem {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path)
                .map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
        };
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)?.into() })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((self.certificate.len() as u64).to_be_bytes());
        hash.update(&self.certificate);
        hash.update(&self.key);
        hash.finalize().into()
    }

    fn served(&self, files: &TlsFiles) -> Result<Served, TlsError> {
        let no_certificate = || TlsError::NoCertificate(files.certificate.clone());
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| no_certificate())?;
        if chain.is_empty() {
            return Err(no_certificate());
        }
        let no_key = || TlsError::NoKey(files.key.clone());
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| no_key())?;
        let key = crypto::ring::sign::any_supported_type(&key).map_err(|_| no_key())?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // Of a kind of key that does not tell.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Ok(Served { certified: Arc::new(certified), digest: self.digest() })
            }
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::OtherKey(files.clone())),
            Err(_) => Err(no_certificate()),
        }
    }
}
