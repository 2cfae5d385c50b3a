//! Command lines as they are met, and what they are called.

use super::*;

/// The name of `command` that works in `/srv/checkout`, where a package of Node.js is.
fn of(language: &str, command: &str) -> String {
    in_folder(language, command, "/srv/checkout")
}

fn in_folder(language: &str, command: &str, folder: &str) -> String {
    let arguments: Vec<String> = command.split(' ').map(str::to_owned).collect();
    let read = |path: &Path| {
        let package = path == Path::new("/srv/checkout/package.json");
        package.then(|| r#"{"name": "@acme/checkout-api", "version": "1.0.0"}"#.to_owned())
    };
    let started = Started { arguments: &arguments, folder: Some(Path::new(folder)), read: &read };
    name(language, &started).unwrap_or_default()
}

#[test]
fn python_programs() {
    for (command, expected) in [
        ("python3 app.py", "app"),
        ("python -u /opt/jobs/mailer.py --verbose", "mailer"),
        ("python3 -X dev -W ignore worker.py", "worker"),
        ("python3 main.py", "checkout"),
        ("python3 src/main.py", "checkout"),
        ("python3 manage.py runserver", "checkout"),
        ("python3 -m shop.api", "shop"),
        ("python3 -m http.server", "http"),
        ("python3 -m http.server 8000", "http"),
        ("python3 -m shop", "shop"),
        ("python3 -c print()", ""),
        ("python3", ""),
        ("python3 /usr/bin/gunicorn -b 0.0.0.0:80 -c gunicorn.conf.py shop.wsgi:application", "shop"),
        ("python3 /usr/bin/gunicorn shop.wsgi", "shop"),
        ("python3 /usr/bin/gunicorn -c conf.py", "gunicorn"),
        ("python3 -m uvicorn --port 8000 main:app", "checkout"),
        ("python3 /venv/bin/uvicorn payments.api:create_app() --factory", "payments"),
        ("python3 /venv/bin/celery -A shop.tasks worker", "shop"),
        ("python3 /venv/bin/flask --app hello run", "hello"),
        ("python3 /venv/bin/flask run", "checkout"),
    ] {
        assert_eq!(of("python", command), expected, "{command}");
    }
    let title = ["gunicorn: master [shop]".to_owned()];
    let started = Started { arguments: &title, folder: None, read: &|_| None };
    assert_eq!(name("python", &started).as_deref(), Some("shop"));
}

#[test]
fn node_programs() {
    for (command, expected) in [
        ("node server.js", "checkout-api"),
        ("node --require ./trace.js --max-old-space-size=512 dist/main.js", "checkout-api"),
        ("node /srv/checkout/node_modules/.bin/next start", "checkout-api"),
        ("node /opt/mailer/mailer.mjs", "mailer"),
        ("node /opt/mailer/index.js", "mailer"),
        ("node /index.js", "index"),
        ("node -e 1", ""),
        ("node", ""),
    ] {
        assert_eq!(of("nodejs", command), expected, "{command}");
    }
}

#[test]
fn programs_of_others() {
    for (language, command, expected) in [
        ("java", "java -Xmx1g -cp a.jar:b.jar -jar /opt/shop-1.2.3-SNAPSHOT.jar --port 80", "shop"),
        ("java", "java -jar order-service.jar", "order-service"),
        ("java", "java -cp /opt/lib/* com.acme.shop.Main", "shop"),
        ("java", "java -Dx=y org.acme.ShopServer run", "ShopServer"),
        ("java", "java -p mods -m acme.shop/acme.shop.Main", "shop"),
        ("java", "java -version", ""),
        ("ruby", "ruby /usr/bin/puma -p 3000", "checkout"),
        ("ruby", "ruby mailer.rb", "mailer"),
        ("php", "php artisan serve", "checkout"),
        ("php", "php -r 1;", ""),
        ("dotnet", "dotnet /app/Shop.Api.dll --urls http://*:80", "Shop.Api"),
        ("dotnet", "dotnet run", ""),
        ("erlang", "beam.smp -W w -- -root /usr/lib/erlang -sname rabbit@host -noshell", "rabbit"),
        ("go", "shop", ""),
    ] {
        assert_eq!(of(language, command), expected, "{command}");
    }
}

#[test]
fn folders_of_the_system_name_nobody() {
    for (folder, expected) in [
        ("/app", "main"),
        ("/", "main"),
        ("/root", "main"),
        ("/usr/src/app", "main"),
        ("/home/ann/shop/src", "shop"),
        ("/var/www/shop/current", "shop"),
    ] {
        assert_eq!(in_folder("python", "python3 main.py", folder), expected, "{folder}");
    }
}

#[test]
fn what_is_no_name_is_none() {
    let long = format!("python3 {}.py", "x".repeat(200));
    for command in [long.as_str(), "python3 \u{1b}[31m.py", "python3 ", "python3 /"] {
        assert_eq!(of("python", command), "", "{command:?}");
    }
}
