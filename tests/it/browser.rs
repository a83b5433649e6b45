//! `/form.js` in a real browser: Chromium opens a page of another website, the page plays the visitor and
//! tells the test what it saw.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use stand_ins::hook::Hook;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::{Mutex, mpsc};

use crate::support::{Service, soon};

/// Names of the browser, as Debian and others have them.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A website with a form, and what its page says to the test.
struct Website {
    address: String,
    said: Mutex<mpsc::UnboundedReceiver<Value>>,
    _server: tokio::task::JoinSet<()>,
}

impl Website {
    /// A page with this script; `routes` are on the same website.
    async fn start(listener: TcpListener, script: &str, form_js: &str, routes: Router) -> Self {
        let page = format!(
            r#"<!doctype html><meta charset="utf-8"><title>A website</title>
            <form data-lead-intake="contact">
              <input name="name"><input name="email"><input name="toString"><input name="toString">
              <input type="checkbox" name="consent_given" value="yes"><input type="hidden" name="reset" value="r">
              <button name="send">Send</button><output></output>
            </form>
            <script src="{form_js}"></script>
            <script>
              const form = document.querySelector("form"), say = what =>
                fetch("/said", {{ method: "POST", body: JSON.stringify(what) }});
              const seen = () => ({{ shown: form.querySelector("output").textContent, state: form.className,
                invalid: [...form.querySelectorAll("[aria-invalid]")].map(it => it.name), email: form.elements.email.value }});
              const fill = values => Object.entries(values).forEach(([name, value]) => {{
                const input = form.querySelector(`[name=${{name}}]`);
                input.type === "checkbox" ? input.checked = value : input.value = value;
              }});
              const press = () => form.querySelector("button").click();
              const once = name => new Promise(done => form.addEventListener("lead-intake:" + name, done, {{ once: true }}));
              (async () => {{ {script} }})().catch(error => say({{ error: String(error) }}));
            </script>"#
        );
        let (tell, said) = mpsc::unbounded_channel();
        let hear = post(|body: String| async move {
            let _ = tell.send(serde_json::from_str(&body).unwrap_or_default());
        });
        let page = get(|| async move { Html(page) });
        let routes = routes.route("/", page).route("/said", hear);
        let address = listener.local_addr().unwrap().to_string();
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, said: Mutex::new(said), _server: server }
    }

    /// Opens the page and returns the `count` things that it says.
    async fn visited(&self, count: usize) -> Vec<Value> {
        let home = tempfile::tempdir().unwrap();
        let mut browser = BROWSERS
            .iter()
            .find_map(|name| {
                Command::new(name)
                    .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"])
                    .args(["--disable-background-networking", "--disable-component-update", "--lang=en"])
                    .args(["--disable-dev-shm-usage", "--remote-debugging-port=0"])
                    .arg(format!("--user-data-dir={}", home.path().display()))
                    .arg(format!("http://{}/?utm_source=news&gclid=g1&other=x", self.address))
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .kill_on_drop(true)
                    .spawn()
                    .ok()
            })
            .expect("no Chromium found; ./.ci/test installs it");
        let mut said = self.said.lock().await;
        let mut all = Vec::new();
        while all.len() < count {
            all.push(soon(said.recv()).await.unwrap());
        }
        browser.kill().await.unwrap();
        all
    }
}

async fn free_port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn a_form_on_another_website_shows_every_error_and_then_sends_its_lead() {
    let hook = Hook::start().await;
    let url = hook.url();
    let (listener, address) = free_port().await;
    let origin = format!("http://{address}");
    let service = Service::start(&[("CRM_WEBHOOK_URL", &url), ("ALLOWED_ORIGINS", &origin)]).await;
    let script = r#"
        // Some systems have an offset in the place of a zone's name.
        Intl.DateTimeFormat = () => ({ resolvedOptions: () => ({ timeZone: "+05:30" }) });
        fill({ name: "Ada", email: "no address", consent_given: true });
        let end = once("refused"); press(); await end; await say(seen());
        fill({ email: "ada@example.com", toString: "one" });
        end = once("sent"); press(); await say(seen()); const sent = await end; await say({ ...seen(), id: sent.detail.id });
    "#;
    let website = Website::start(listener, script, &service.url("/form.js"), Router::new()).await;
    let said = website.visited(3).await;
    let (refused, sending, sent) = (&said[0], &said[1], &said[2]);
    assert_eq!(
        (&refused["state"], &refused["invalid"]),
        (&json!("is-refused"), &json!(["email"])),
        "{said:?}"
    );
    assert!(refused["shown"].as_str().unwrap().starts_with("email: "), "{refused}");
    assert_eq!((&sending["state"], &sending["shown"]), (&json!("is-sending"), &json!("Sending…")));
    assert_eq!(
        (&sent["state"], &sent["invalid"], &sent["email"]),
        (&json!("is-sent"), &json!([]), &json!(""))
    );

    let calls = soon(hook.until(|calls| !calls.is_empty())).await;
    let lead = &calls[0].body;
    assert_eq!(lead["id"], sent["id"]);
    assert_eq!((&lead["email"], &lead["consent_given"]), (&json!("ada@example.com"), &json!(true)));
    assert_eq!(lead["form_data"], json!({"toString": ["one", ""], "reset": "r"}));
    let source = &lead["source"];
    assert_eq!((&source["utm_source"], &source["gclid"]), (&json!("news"), &json!("g1")));
    assert!(source["url"].as_str().unwrap().starts_with(&origin) && source.get("other").is_none());
}

/// A way to the service that fails twice: once before the service hears of the lead, once after.
struct Stubborn {
    service: String,
    client: reqwest::Client,
    posts: AtomicUsize,
}

async fn stubborn(State(way): State<Arc<Stubborn>>, request: Request) -> Response {
    let number = way.posts.fetch_add(1, Ordering::Relaxed);
    if number == 0 {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
    }
    let key = request.headers()["idempotency-key"].clone();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let there = way.client.post(&way.service).header("Content-Type", "application/json");
    let answer = there.header("Idempotency-Key", key).body(body).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    match number {
        1 => (StatusCode::BAD_GATEWAY, Html("<h1>lost</h1>")).into_response(),
        _ => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
    }
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key_and_makes_one_lead() {
    let service = Service::start(&[]).await;
    let (listener, address) = free_port().await;
    let form_js = service.get("/form.js").await.1;
    let way = Stubborn {
        service: service.url("/api/submit"),
        client: reqwest::Client::new(),
        posts: AtomicUsize::new(0),
    };
    let way = Arc::new(way);
    let routes = Router::new()
        .route("/form.js", get(|| async move { ([(header::CONTENT_TYPE, "text/javascript")], form_js) }))
        .route("/api/submit", post(stubborn))
        .with_state(Arc::clone(&way));
    let script = r#"
        fill({ name: "Ada", email: "ada@example.com" });
        let end = once("sent"); press(); press(); const sent = await end; await say({ ...seen(), id: sent.detail.id });
    "#;
    let website = Website::start(listener, script, &format!("http://{address}/form.js"), routes).await;
    let said = website.visited(1).await;
    assert_eq!(said[0]["state"], "is-sent", "{said:?}");
    assert_eq!(way.posts.load(Ordering::Relaxed), 3);
    let (_, list) = service.cli(&["leads", "list", "--json"]).await;
    assert_eq!(list.lines().count(), 1);
    assert!(
        list.contains(said[0]["id"].as_str().unwrap()) && list.contains("\"consent_given\":false"),
        "{list}"
    );
}
