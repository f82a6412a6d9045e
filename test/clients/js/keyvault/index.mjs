// The published npm package against a vault or a managed HSM: a key's life. It reads
// KEYVAULT_URI, IDENTITY_ENDPOINT, IDENTITY_HEADER and AZURE_CLIENT_ID.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { CryptographyClient, KeyClient } from "@azure/keyvault-keys";

const env = (name) => {
  assert.ok(process.env[name], `${name} is not set`);
  return process.env[name];
};
const uri = env("KEYVAULT_URI");
const hsm = new URL(uri).hostname.includes(".managedhsm.");

// The managed-identity endpoint, which the package @azure/identity would ask too.
const credential = {
  async getToken(scopes) {
    const resource = [scopes].flat()[0].replace(/\/\.default$/, "");
    const at = new URL(env("IDENTITY_ENDPOINT"));
    at.search = new URLSearchParams({ "api-version": "2019-08-01", resource, client_id: env("AZURE_CLIENT_ID") });
    const answer = await fetch(at, { headers: { "X-IDENTITY-HEADER": env("IDENTITY_HEADER") } });
    assert.equal(answer.status, 200, await answer.clone().text());
    const { access_token: token, expires_on: until } = await answer.json();
    return { token, expiresOnTimestamp: Number(until) * 1000 };
  },
};

const client = new KeyClient(uri, credential);
const use = (key) => new CryptographyClient(key.id, credential);
const all = async (pages) => {
  const out = [];
  for await (const item of pages) out.push(item);
  return out;
};
const rsa = hsm ? "RSA-HSM" : "RSA";

// Create, rotate, list versions.
const first = await client.createRsaKey("js-rsa", { keySize: 2048, tags: { team: "a" } });
assert.equal(first.keyType, rsa);
assert.equal(first.key.n.length, 256);
const second = await client.rotateKey("js-rsa");
assert.notEqual(second.properties.version, first.properties.version);
assert.deepEqual(second.properties.tags, { team: "a" });
const versions = (await all(client.listPropertiesOfKeyVersions("js-rsa"))).map((p) => p.version);
assert.deepEqual(versions.sort(), [first.properties.version, second.properties.version].sort());

// Wrap under the old version, unwrap with it; the new one refuses.
const share = randomBytes(32);
const wrapped = await use(first).wrapKey("RSA-OAEP-256", share);
assert.deepEqual(Buffer.from((await use(first).unwrapKey("RSA-OAEP-256", wrapped.result)).result), share);
await assert.rejects(use(second).unwrapKey("RSA-OAEP-256", wrapped.result), { statusCode: 400 });

// Sign and verify, of each kind.
const digest = createHash("sha256").update("message").digest();
const signing = [[first, "RS256"], [first, "PS256"]];
for (const [curve, algorithm] of [["P-256", "ES256"], ["P-256K", "ES256K"]]) {
  signing.push([await client.createEcKey(`js-${curve}`, { curve }), algorithm]);
}
for (const [key, algorithm] of signing) {
  const { result } = await use(key).sign(algorithm, digest);
  assert.equal((await use(key).verify(algorithm, digest, result)).result, true, algorithm);
  const other = createHash("sha256").update("another").digest();
  assert.equal((await use(key).verify(algorithm, other, result)).result, false, algorithm);
}

// A rotation policy.
const policy = await client.updateKeyRotationPolicy("js-rsa", {
  expiresIn: "P1Y",
  lifetimeActions: [{ action: "Rotate", timeAfterCreate: "P90D" }],
});
assert.equal(policy.expiresIn, "P1Y");
const read = await client.getKeyRotationPolicy("js-rsa");
assert.ok(read.lifetimeActions.some((a) => a.action.toLowerCase() === "rotate" && a.timeAfterCreate === "P90D"));
const third = await client.rotateKey("js-rsa");
assert.ok(third.properties.expiresOn > new Date(Date.now() + 360 * 86400e3));

// A disabled key unwraps nothing.
await client.updateKeyProperties("js-rsa", first.properties.version, { enabled: false });
await assert.rejects(use(first).unwrapKey("RSA-OAEP-256", wrapped.result), { statusCode: 403 });
await client.updateKeyProperties("js-rsa", first.properties.version, { enabled: true });

// Backup and restore, delete and recover.
const backup = await client.backupKey("js-P-256");
const gone = await (await client.beginDeleteKey("js-P-256", { intervalInMs: 100 })).pollUntilDone();
assert.ok(gone.properties.recoveryId);
await assert.rejects(client.restoreKeyBackup(backup), { statusCode: 409 });
await client.purgeDeletedKey("js-P-256");
assert.equal((await client.restoreKeyBackup(backup)).name, "js-P-256");
await (await client.beginDeleteKey("js-rsa", { intervalInMs: 100 })).pollUntilDone();
await assert.rejects(client.getKey("js-rsa"), { statusCode: 404 });
await (await client.beginRecoverDeletedKey("js-rsa", { intervalInMs: 100 })).pollUntilDone();
assert.deepEqual(Buffer.from((await use(first).unwrapKey("RSA-OAEP-256", wrapped.result)).result), share);

if (hsm) {
  // An AES key never leaves: all its work is the service's.
  const oct = await client.createOctKey("js-oct", { keySize: 256, hsm: true });
  assert.equal(oct.keyType, "oct-HSM");
  const { result } = await use(oct).wrapKey("A256KW", share);
  assert.deepEqual(Buffer.from((await use(oct).unwrapKey("A256KW", result)).result), share);
  const sealed = await use(oct).encrypt({ algorithm: "A256GCM", plaintext: share, additionalAuthenticatedData: digest });
  const opened = await use(oct).decrypt({
    algorithm: "A256GCM", ciphertext: sealed.result, iv: sealed.iv, authenticationTag: sealed.authenticationTag, additionalAuthenticatedData: digest,
  });
  assert.deepEqual(Buffer.from(opened.result), share);
  assert.equal((await client.getRandomBytes(64)).length, 64);
}
console.log("passed");
