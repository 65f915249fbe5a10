//! Checkpoints in an S3-compatible object storage.

use crate::signing::Signing;
use crate::storage::{Entry, Storage, check_name};
use futures::{StreamExt, TryStreamExt, stream};
use millrace_sdk::Fault;
use millrace_sdk::config::Secret;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig, WriteMultipart,
};
use std::error::Error as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use xxhash_rust::xxh3::Xxh3;

/// How an object storage is reached; what is None comes from the environment, by the names of Amazon's own clients.
#[derive(Clone, Debug, Default)]
pub struct S3Options {
    /// `http://…` or `https://…`; None: Amazon's of the region.
    pub endpoint: Option<String>,
    /// None: `AWS_REGION`, else us-east-1.
    pub region: Option<String>,
    /// None: `AWS_ACCESS_KEY_ID`.
    pub access_key: Option<String>,
    /// None: `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: Option<Secret>,
    /// The bucket stands in the path rather than in the host's name.
    pub path_style: bool,
}

/// Up to here a file is created by one exclusive request; a larger one goes in parts of [`PART`] bytes, [`AT_ONCE`] of them at a time.
const WHOLE: u64 = 16 << 20;
const PART: usize = 8 << 20;
const AT_ONCE: usize = 4;

/// A bucket, or what lies below a prefix of it.
pub struct S3 {
    store: Arc<AmazonS3>,
    /// `bucket/prefix`, or the bucket alone.
    place: String,
    prefix: Option<String>,
    /// Never shown.
    secrets: Vec<String>,
    /// Set once the server has refused to create what was there.
    exclusive: OnceLock<()>,
    runtime: Option<Runtime>,
}

impl S3 {
    /// `place` is `bucket` or `bucket/prefix`. Nothing is asked of the server yet.
    pub fn open(place: &str, options: &S3Options) -> Result<S3, Fault> {
        let (bucket, prefix) = place.trim_matches('/').split_once('/').map_or((place.trim_matches('/'), None), |(b, p)| (b, Some(p)));
        if bucket.is_empty() {
            return Err(Fault::config("a place for checkpoints names no bucket").hint("write `s3://bucket/prefix`"));
        }
        if let Some(prefix) = prefix {
            check_name(prefix).map_err(|_| Fault::config(format!("`{prefix}` is no prefix of an object storage")))?;
        }
        let environment = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let access = options.access_key.clone().or_else(|| environment("AWS_ACCESS_KEY_ID"));
        let secret = options.secret_key.as_ref().map(|s| s.0.clone()).or_else(|| environment("AWS_SECRET_ACCESS_KEY"));
        let token = options.access_key.is_none().then(|| environment("AWS_SESSION_TOKEN")).flatten();
        let region = options.region.clone().or_else(|| environment("AWS_REGION")).unwrap_or_else(|| "us-east-1".into());
        let endpoint = options.endpoint.clone().or_else(|| environment("AWS_ENDPOINT_URL"));
        // the environment's endpoint says nothing of it: a path works with all of them
        let in_host = !options.path_style && (options.endpoint.is_some() || endpoint.is_none());
        let client = ClientOptions::new()
            .with_allow_http(true)
            .with_connect_timeout(Duration::from_secs(5))
            .with_read_timeout(Duration::from_secs(30))
            .with_timeout(Duration::from_secs(300));
        let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(region)
            .with_virtual_hosted_style_request(in_host)
            .with_client_options(client)
            .with_crypto_provider(Arc::new(Signing))
            .with_retry(RetryConfig { backoff, max_retries: 5, retry_timeout: Duration::from_secs(30) });
        let mut secrets = Vec::new();
        match (access, secret) {
            (Some(access), Some(secret)) => {
                secrets.extend([secret.clone(), access.clone()]);
                builder = builder.with_access_key_id(access).with_secret_access_key(secret);
            }
            // Amazon's machines know who they are
            (None, None) if endpoint.is_none() => {}
            (access, _) => {
                let missing = if access.is_none() { "access key" } else { "secret key" };
                return Err(Fault::config(format!("the {missing} of s3://{place} is missing"))
                    .hint("give `s3.access_key` and `s3.secret_key`, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"));
            }
        }
        if let Some(token) = token {
            secrets.push(token.clone());
            builder = builder.with_token(token);
        }
        if let Some(endpoint) = endpoint {
            let endpoint = if in_host { endpoint.replacen("://", &format!("://{bucket}."), 1) } else { endpoint };
            builder = builder.with_endpoint(endpoint);
        }
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("s3").enable_all().build();
        let runtime = runtime.map_err(|e| Fault::refused("no thread can be started").detail(e.to_string()))?;
        let store = builder.build().map_err(|e| Fault::config(format!("s3://{place} cannot be opened")).detail(e.to_string()))?;
        Ok(S3 {
            store: Arc::new(store),
            place: place.trim_matches('/').into(),
            prefix: prefix.map(Into::into),
            secrets,
            exclusive: OnceLock::new(),
            runtime: Some(runtime),
        })
    }

    fn key(&self, name: &str) -> Result<Key, Fault> {
        check_name(name)?;
        let key = self.prefix.as_ref().map_or(name.to_string(), |p| format!("{p}/{name}"));
        Key::parse(&key).map_err(|e| Fault::bug(format!("checkpoint storage: `{key}` is no name for an object")).detail(e.to_string()))
    }

    /// None: everything.
    fn folder(&self, name: &str) -> Result<Option<Key>, Fault> {
        match (name, &self.prefix) {
            ("", None) => Ok(None),
            ("", Some(p)) => Key::parse(p).map(Some).map_err(|e| Fault::bug(e.to_string())),
            _ => self.key(name).map(Some),
        }
    }

    /// Runs to its end on the storage's own threads: the caller's may belong to another runtime.
    fn wait<T: Send + 'static>(
        &self,
        done: &str,
        name: &str,
        what: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Fault> {
        let (to, from) = sync_channel(1);
        let Some(runtime) = &self.runtime else { return Err(Fault::bug("checkpoint storage: used after its end")) };
        // nobody waits any more: then nobody asks for the answer
        runtime.spawn(async move { drop(to.send(what.await)) });
        match from.recv() {
            Ok(answer) => answer.map_err(|e| self.fault(done, name, &e)),
            Err(_) => Err(Fault::bug(format!("checkpoint storage: a request for s3://{}/{name} never ended", self.place))),
        }
    }

    fn fault(&self, done: &str, name: &str, e: &Error) -> Fault {
        let what = format!("checkpoint storage: `s3://{}/{name}` cannot be {done}", self.place);
        let detail = said(e);
        let status = detail.split_once("status code: ").and_then(|(_, t)| t.get(..3)?.parse::<u16>().ok());
        let fault = match (e, status) {
            _ if detail.contains("NoSuchBucket") => Fault::refused(what).hint("make the bucket, or name another"),
            (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) | (_, Some(401 | 403)) => {
                Fault::refused(what).hint("check the access key, its secret key, and what that key may do with the bucket")
            }
            (Error::NotSupported { .. } | Error::NotImplemented { .. } | Error::InvalidPath { .. }, _) => Fault::refused(what),
            (_, Some(408 | 409 | 425 | 429)) => Fault::down(what),
            (_, Some(300..500)) => Fault::refused(what).hint("check the endpoint, the region, the bucket's name and the access key"),
            _ => Fault::down(what),
        };
        fault.detail(self.without_secrets(&detail))
    }

    fn without_secrets(&self, text: &str) -> String {
        self.secrets.iter().filter(|s| !s.is_empty()).fold(text.to_string(), |t, s| t.replace(s.as_str(), "***"))
    }

    /// Some storages take `If-None-Match` and overwrite all the same: then two generations would run at once.
    fn check_exclusive(&self) -> Result<(), Fault> {
        if self.exclusive.get().is_some() {
            return Ok(());
        }
        let name = format!("exclusive-{}", crate::log::random_id());
        let first = self.put_new(&name, PutPayload::from_static(b"1"))?;
        let second = self.put_new(&name, PutPayload::from_static(b"2"))?;
        self.delete(&name)?;
        match (first, second) {
            (true, false) => Ok(*self.exclusive.get_or_init(|| ())),
            _ => Err(Fault::refused(format!("s3://{} cannot hold checkpoints: it overwrites what must stay", self.place))
                .detail("a request with `If-None-Match: *` for an object that is there was not refused")
                .hint("use a storage that knows conditional writes, or a folder that all machines share")),
        }
    }

    /// False: the name is taken.
    fn put_new(&self, name: &str, payload: PutPayload) -> Result<bool, Fault> {
        let (store, key) = (self.store.clone(), self.key(name)?);
        self.wait("written", name, async move {
            match store.put_opts(&key, payload, PutMode::Create.into()).await {
                Ok(_) => Ok(true),
                Err(Error::AlreadyExists { .. }) => Ok(false),
                // A server may refuse before it has read the body, and close: that its answer is lost then does not make the name free.
                Err(e) if store.head(&key).await.is_err() => Err(e),
                Err(_) => Ok(false),
            }
        })
    }

    fn upload(&self, name: &str, file: &Path) -> Result<(), Fault> {
        let (store, key, mut file) = (self.store.clone(), self.key(name)?, open(file)?);
        self.wait("written", name, async move {
            let mut parts = WriteMultipart::new_with_chunk_size(store.put_multipart(&key).await?, PART);
            let sent = async {
                let mut buffer = vec![0; PART];
                loop {
                    parts.wait_for_capacity(AT_ONCE).await?;
                    match file.read(&mut buffer).map_err(of_file)? {
                        0 => return Ok(()),
                        n => parts.write(&buffer[..n]),
                    }
                }
            };
            match sent.await {
                Ok(()) => parts.finish().await.map(drop),
                Err(e) => parts.abort().await.and(Err(e)),
            }
        })
    }

    /// Whether an object has a file's bytes; None: there is no such object.
    fn same(&self, name: &str, file: &Path) -> Result<Option<bool>, Fault> {
        let (store, key, mut file) = (self.store.clone(), self.key(name)?, open(file)?);
        self.wait("read", name, async move {
            let Some(object) = present(store.get(&key).await)? else { return Ok(None) };
            if file.metadata().map_err(of_file)?.len() != object.meta.size {
                return Ok(Some(false));
            }
            let (mut bytes, mut buffer) = (object.into_stream(), Vec::new());
            while let Some(some) = bytes.next().await.transpose()? {
                buffer.resize(some.len(), 0);
                file.read_exact(&mut buffer).map_err(of_file)?;
                if buffer != some {
                    return Ok(Some(false));
                }
            }
            Ok(Some(true))
        })
    }
}

/// A server that lists two requests for one new name as a conflict may end with neither.
const TRIES: usize = 10;

impl Storage for S3 {
    fn place(&self) -> String {
        format!("s3://{}", self.place)
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, Fault> {
        self.check_exclusive()?;
        for _ in 0..TRIES {
            if self.put_new(name, PutPayload::from(bytes.to_vec()))? {
                return Ok(true);
            }
            // a refusal may be the lost answer to a request that succeeded
            if let Some(there) = self.read(name)? {
                return Ok(there == bytes);
            }
        }
        Err(Fault::down(format!("checkpoint storage: s3://{}/{name} is neither there nor can it be created", self.place)))
    }

    /// A file above 16 MiB goes in parts, whose end no server of all tells whether it overwrote: that it has a name of its own is for the
    /// caller to see to. Slots are small.
    fn create_from(&self, name: &str, file: &Path) -> Result<bool, Fault> {
        if open(file)?.metadata().map_err(|e| unreadable(file, &e))?.len() <= WHOLE {
            return self.create(name, &std::fs::read(file).map_err(|e| unreadable(file, &e))?);
        }
        match self.same(name, file)? {
            Some(same) => Ok(same),
            None => self.upload(name, file).map(|()| true),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let (store, key) = (self.store.clone(), self.key(name)?);
        self.wait("read", name, async move {
            match present(store.get(&key).await)? {
                Some(object) => object.bytes().await.map(|b| Some(b.to_vec())),
                None => Ok(None),
            }
        })
    }

    fn fetch(&self, name: &str, file: &Path) -> Result<bool, Fault> {
        let (store, key, to): (_, _, PathBuf) = (self.store.clone(), self.key(name)?, file.into());
        let fetched = self.wait("fetched", name, async move {
            let Some(object) = present(store.get_opts(&key, GetOptions::default()).await)? else { return Ok(false) };
            match std::fs::remove_file(&to) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(of_file(e)),
                _ => {}
            }
            let (mut out, mut bytes) = (File::create_new(&to).map_err(of_file)?, object.into_stream());
            while let Some(some) = bytes.next().await.transpose()? {
                out.write_all(&some).map_err(of_file)?;
            }
            Ok(true)
        });
        fetched.inspect_err(|_| drop(std::fs::remove_file(file)))
    }

    fn sum(&self, name: &str) -> Result<Option<(u64, u64)>, Fault> {
        let (store, key) = (self.store.clone(), self.key(name)?);
        self.wait("read", name, async move {
            let Some(object) = present(store.get(&key).await)? else { return Ok(None) };
            let (mut bytes, mut len, mut sum) = (object.into_stream(), 0, Xxh3::new());
            while let Some(some) = bytes.next().await.transpose()? {
                len += some.len() as u64;
                sum.update(&some);
            }
            Ok(Some((len, sum.digest())))
        })
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>, Fault> {
        let (store, prefix) = (self.store.clone(), self.folder(folder)?);
        let found = self.wait("listed", folder, async move { store.list_with_delimiter(prefix.as_ref()).await })?;
        let entry = |o: object_store::ObjectMeta| o.location.filename().map(|name| Entry { name: name.into(), len: o.size });
        let mut files: Vec<Entry> = found.objects.into_iter().filter_map(entry).collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, Fault> {
        let (store, prefix) = (self.store.clone(), self.folder(folder)?);
        let found = self.wait("listed", folder, async move { store.list_with_delimiter(prefix.as_ref()).await })?;
        let mut names: Vec<String> = found.common_prefixes.iter().filter_map(|p| p.filename()).map(Into::into).collect();
        names.sort();
        Ok(names)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        let (store, key, payload) = (self.store.clone(), self.key(name)?, PutPayload::from(bytes.to_vec()));
        self.wait("written", name, async move { store.put(&key, payload).await.map(drop) })
    }

    fn delete(&self, name: &str) -> Result<(), Fault> {
        self.delete_all(&[name.to_string()])
    }

    fn delete_all(&self, names: &[String]) -> Result<(), Fault> {
        let Some(first) = names.first() else { return Ok(()) };
        let keys = names.iter().map(|n| self.key(n)).collect::<Result<Vec<_>, _>>()?;
        let store = self.store.clone();
        self.wait("deleted", first, async move {
            let keys = stream::iter(keys.into_iter().map(Ok)).boxed();
            store.delete_stream(keys).try_for_each(|_| async { Ok(()) }).await
        })
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // nothing runs any more, and to wait for it could be forbidden here
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

fn present<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(t) => Ok(Some(t)),
        // any other 404 (a missing bucket, a proxy's page) must not look like a job that never ran
        Err(e @ Error::NotFound { .. }) if said(&e).contains("NoSuchKey") => Ok(None),
        Err(e) => Err(e),
    }
}

/// An error with all that caused it; of an answer in XML its code and message.
fn said(e: &Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        let more = c.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = c.source();
    }
    let within = |tag: &str| text.split_once(&format!("<{tag}>")).and_then(|(_, t)| t.split_once("</")).map(|(t, _)| t.to_string());
    match (text.find("<?xml").or(text.find("<Error")), within("Code")) {
        (Some(at), Some(code)) => format!("{}{code}: {}", &text[..at], within("Message").unwrap_or_default()),
        _ => text,
    }
}

fn open(file: &Path) -> Result<File, Fault> {
    File::open(file).map_err(|e| unreadable(file, &e))
}

fn unreadable(file: &Path, e: &io::Error) -> Fault {
    Fault::refused(format!("`{}` cannot be read", file.display())).detail(e.to_string())
}

fn of_file(e: io::Error) -> Error {
    Error::NotSupported { source: Box::new(e) }
}
