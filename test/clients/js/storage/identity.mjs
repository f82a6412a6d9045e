// The managed-identity endpoint, which the package @azure/identity would ask too: at
// IDENTITY_ENDPOINT with IDENTITY_HEADER, as AZURE_CLIENT_ID.
import assert from "node:assert/strict";

const env = process.env;

export const credential = {
  async getToken(scopes) {
    const resource = [scopes].flat()[0].replace(/\/\.default$/, "");
    const at = new URL(env.IDENTITY_ENDPOINT);
    at.search = new URLSearchParams({ "api-version": "2019-08-01", resource, client_id: env.AZURE_CLIENT_ID });
    const answer = await fetch(at, { headers: { "X-IDENTITY-HEADER": env.IDENTITY_HEADER } });
    assert.equal(answer.status, 200, await answer.clone().text());
    const { access_token: token, expires_on: until } = await answer.json();
    return { token, expiresOnTimestamp: Number(until) * 1000 };
  },
};
