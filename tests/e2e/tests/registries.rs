//! The way to a registry: certificates, proxies, and what is said when it leads nowhere.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use bandsox_e2e::{Authority, Bed, Proxy, Registry, Run, Storage, after_mounting};

/// The name that the registry's certificate is for. No name server knows it.
const NAME: &str = "registry.test";

/// `image pull` of an image below [`NAME`], which is this machine for the program, with nothing of our own environment that
/// would change its way.
fn pull(storage: &Storage, registry: &Registry) -> Run {
    pull_named(storage, &format!("{NAME}:{}/small:1", registry.port()))
}

fn pull_named(storage: &Storage, name: &str) -> Run {
    let hosts = storage.file("hosts", format!("127.0.0.1 localhost {NAME}\n").as_bytes());
    let run = after_mounting("mount --bind \"$HOSTS\" /etc/hosts").env("HOSTS", hosts);
    let run = [
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
        "SSL_CERT_DIR",
    ]
    .iter()
    .fold(run, |run, variable| run.env(variable, ""));
    run.arg(storage.program()).arg("--storage").arg(storage.root()).args(["image", "pull", name])
}

fn with_image() -> (Registry, Storage) {
    let registry = Registry::start_tls(NAME);
    registry.put(&Bed::get().busybox_image(), "small:1");
    (registry, Storage::new())
}

#[test]
fn a_private_authority_is_trusted_by_ssl_cert_file_and_else_refused_with_what_to_do() {
    let (registry, storage) = with_image();
    let dir = storage.scratch("another-authority");
    std::fs::create_dir(&dir).expect("ours");
    let other = Authority::new(&dir).certificate();

    let refused = pull(&storage, &registry).env("SSL_CERT_FILE", other).output();
    let refused = refused.refused("nobody whom this machine trusts has signed its certificate");
    let refused = refused.refused(&format!("{NAME}:{}", registry.port())).refused("SSL_CERT_FILE");
    assert!(refused.complaint().contains("invalid peer certificate"), "{refused}");
    let nothing = pull(&storage, &registry).env("SSL_CERT_FILE", storage.scratch("none")).output();
    nothing.refused("no certificates to trust").refused("SSL_CERT_FILE");

    let digest = pull(&storage, &registry).env("SSL_CERT_FILE", registry.authority()).ok();
    assert!(digest.starts_with("sha256:"), "{digest}");
}

#[test]
fn a_certificate_for_another_name_and_a_registry_without_tls_are_told_apart() {
    let storage = Storage::new();
    let other = Registry::start_tls("other.test");
    let refused = pull(&storage, &other).env("SSL_CERT_FILE", other.authority()).output();
    refused.refused("its certificate is for other names");

    let plain = Registry::start();
    let refused = pull(&storage, &plain).output();
    let advice = format!("`--insecure-registry {NAME}:{}` allows plain HTTP", plain.port());
    refused.refused("does not speak TLS").refused(&advice);
    plain.put(&Bed::get().busybox_image(), "small:1");
    let host = format!("{NAME}:{}", plain.port());
    pull(&storage, &plain).args(["--insecure-registry", &host]).ok();
}

#[test]
fn a_registry_that_may_be_insecure_does_not_make_its_token_server_so() {
    let storage = Storage::new();
    let tokens = Registry::start_tls(NAME);
    let realm = format!("https://{NAME}:{}/token", tokens.port());
    let insecure = Answering::start(format!(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"{realm}\"\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    ));

    let refused = pull_named(&storage, &format!("{}/small:1", insecure.host)).output();

    let host = format!("no safe connection to {NAME}:{}", tokens.port());
    refused.refused(&host).refused("nobody whom this machine trusts has signed its certificate");
}

/// A server that answers every request on its port of this machine with the same bytes.
struct Answering {
    host: String,
}

impl Answering {
    fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("has one").to_string();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for mut peer in listener.incoming().flatten() {
                let mut request = [0; 4096];
                // A peer that went away is no concern of ours.
                peer.read(&mut request).and_then(|_| peer.write_all(answer.as_bytes())).ok();
            }
        });
        Self { host }
    }
}

#[test]
fn names_of_docker_hub_come_from_the_mirror_that_the_environment_or_the_file_names() {
    let registry = Registry::start();
    registry.put(&Bed::get().busybox_image(), "library/small:latest");
    let mirror = format!("http://{}", registry.host);
    let (by_environment, by_file) = (Storage::new(), Storage::new());
    let settings = serde_json::json!({"mirrors": {"docker.io": [&mirror]}}).to_string();
    std::fs::write(by_file.root().join("images.json"), settings).expect("ours");

    let pull = |storage: &Storage| storage.bandsox(&["image", "pull", "small"]);
    pull(&by_environment).env("BANDSOX_REGISTRY_MIRROR", &mirror).ok();
    pull(&by_file).ok();

    for storage in [&by_environment, &by_file] {
        let rows = storage.bandsox(&["image", "ls", "-o", "json"]).output().ok().json();
        assert_eq!(rows[0]["reference"], "docker.io/library/small:latest", "{rows}");
    }
}

#[test]
fn a_pull_goes_through_the_proxy_of_https_proxy_and_around_it_by_no_proxy() {
    let (registry, storage) = with_image();
    let proxy = Proxy::to(&registry.host);
    let pull = || {
        let run = pull(&storage, &registry).env("SSL_CERT_FILE", registry.authority());
        run.env("HTTPS_PROXY", &proxy.url)
    };

    pull().env("NO_PROXY", format!("example.test,{NAME}")).ok();
    assert_eq!(proxy.asked(), [""; 0], "NO_PROXY names the registry");
    storage.bandsox(&["image", "prune", "--all"]).ok();

    pull().ok();
    let asked = proxy.asked();
    let host = format!("{NAME}:{}", registry.port());
    assert!(!asked.is_empty() && asked.iter().all(|it| *it == host), "{asked:?}");
}

#[test]
fn a_proxy_that_is_not_there_is_named_without_the_login_to_it() {
    let (registry, storage) = with_image();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");

    let refused = pull(&storage, &registry)
        .env("SSL_CERT_FILE", registry.authority())
        .env("HTTPS_PROXY", format!("http://user:secret@{port}"))
        .output();

    let refused = refused.refused(&format!("through the proxy {port}, which HTTPS_PROXY"));
    assert!(!refused.complaint().contains("secret"), "{refused}");
}
