// An OpenID provider for tests: `oidc-provider`, certified, with one client, one interaction and people as they are asked
// for. In: issuer port, client id and secret, redirect URI. Out: "listening" on stdout. The login name says who signs in:
// "ada" has the groups that `groups` names, and so on.
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const [port, clientId, clientSecret, redirectUri] = process.argv.slice(2);
const PEOPLE = {
  ada: { name: "Ada Lovelace", email: "ada@example.com", email_verified: true, groups: ["trust", "staff"] },
  eve: { name: 'Eve <script>alert(1)</script>', email: "ada@example.com", email_verified: false, groups: ["staff"] },
  max: { name: "Max", groups: ["admins"] },
};

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: clientId, client_secret: clientSecret, redirect_uris: [redirectUri],
    grant_types: ["authorization_code"], response_types: ["code"], token_endpoint_auth_method: "client_secret_basic",
  }],
  pkce: { required: () => true },
  claims: { openid: ["sub"], profile: ["name", "groups"], email: ["email", "email_verified"] },
  features: { devInteractions: { enabled: true } },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...PEOPLE[id] }) }),
  cookies: { keys: ["only for tests"] },
  ttl: { Session: 600, Interaction: 600, Grant: 600, AccessToken: 600, IdToken: 600, AuthorizationCode: 60 },
});
createServer(provider.callback()).listen(Number(port), "127.0.0.1", () => console.log("listening"));
