use std::sync::Arc;
use api::{AuthFailure, Authenticator, Context, server};
struct Tokens;
impl Authenticator for Tokens {
    fn authenticate(&self, token: &str) -> Result<Arc<Context>, AuthFailure> {
        let mut c = Context::internal_for(token);
        if token != "admin" { c.credentials.roles.clear(); c.credentials.is_admin=false; }
        if let Some((user, project)) = token.split_once(':') { c.credentials.user_id=Some(user.into()); c.credentials.project_id=Some(project.into()); if user=="admin" { c.credentials.roles=vec!["admin".into()];} }
        Ok(Arc::new(c))
    }
}
#[tokio::main]
async fn main() {
    let db = database::Database::temporary().unwrap();
    db.migrate(&[placement::MIGRATIONS]).unwrap();
    let p = placement::Placement::new(db, None).unwrap();
    let service = p.service(Arc::new(Tokens), "http://127.0.0.1:5000");
    let port: u16 = std::env::args().nth(1).unwrap().parse().unwrap();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (_tx, rx) = tokio::sync::watch::channel(false);
    server::serve(listener, server::Mounts::new(vec![server::Mount { prefix: String::new(), service }]), rx).await;
}
