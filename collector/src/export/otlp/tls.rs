//! Certificates: reads the PEM files of a destination and builds what the two transports want.

use std::path::{Path, PathBuf};

use hyper_rustls::ConfigBuilderExt;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::settings::TlsSettings;

/// A destination that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A certificate or key file.
    #[error("failed to read {path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
    /// Only one of the pair was given.
    #[error("a client certificate needs its key, and a key its certificate")]
    HalfIdentity,
    /// Everything else about TLS.
    #[error("failed to set up TLS: {0}")]
    Tls(String),
    /// The address.
    #[error("endpoint {endpoint} {reason}")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What was wrong with it.
        reason: String,
    },
}

impl TlsSettings {
    /// For gRPC.
    pub(super) fn tonic(&self) -> Result<ClientTlsConfig, SetupError> {
        let mut config = ClientTlsConfig::new();
        config = match &self.ca_file {
            Some(path) => {
                certificates(path)?; // tonic would report a bad file only when it connects
                config.ca_certificate(Certificate::from_pem(read(path)?))
            }
            None => config.with_native_roots(),
        };
        if let Some((cert, key)) = self.identity()? {
            config = config.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(config)
    }

    /// For HTTP.
    pub(super) fn rustls(&self) -> Result<ClientConfig, SetupError> {
        let tls = |error: rustls::Error| SetupError::Tls(error.to_string());
        let builder = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(tls)?;
        let builder = match &self.ca_file {
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| file(path, &error))?;
                }
                builder.with_root_certificates(roots)
            }
            None => builder.with_native_roots().map_err(|error| SetupError::Tls(error.to_string()))?,
        };
        match self.identity()? {
            None => Ok(builder.with_no_client_auth()),
            Some((cert, key)) => {
                let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, &error))?;
                builder.with_client_auth_cert(certificates(cert)?, key_der).map_err(tls)
            }
        }
    }

    fn identity(&self) -> Result<Option<(&Path, &Path)>, SetupError> {
        match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            (None, None) => Ok(None),
            _ => Err(SetupError::HalfIdentity),
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(list) if list.is_empty() => Err(file(path, &"no certificate in it")),
        Ok(list) => Ok(list),
        Err(error) => Err(file(path, &error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SetupError> {
    std::fs::read(path).map_err(|error| file(path, &error))
}

fn file(path: &Path, reason: &dyn std::fmt::Display) -> SetupError {
    SetupError::File { path: path.to_owned(), reason: reason.to_string() }
}
