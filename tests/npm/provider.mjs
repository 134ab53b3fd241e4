// An OpenID Connect provider (oidc-provider) as companies run one: who comes is signed in without a page.
// In: a line of JSON {port, key, cert, client}; then commands {claims: {...}}, {rotate: alg}. Out: a line of JSON for each.
import { createServer } from 'node:https'
import { createInterface } from 'node:readline'
import { readFileSync } from 'node:fs'
import { generateKeyPairSync } from 'node:crypto'
import { Provider } from 'oidc-provider'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const line = async () => JSON.parse((await lines.next()).value)
const say = (told) => process.stdout.write(JSON.stringify(told) + '\n')
const told = await line()
console.info = console.error // what it has to say is no answer of ours
let person = {}
let number = 0

const kinds = {
  RS256: ['rsa', { modulusLength: 2048 }], PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }], EdDSA: ['ed25519', {}],
}
const made = (alg) => {
  number += 1
  const key = generateKeyPairSync(...kinds[alg]).privateKey.export({ format: 'jwk' })
  const provider = new Provider(told.issuer, {
    clients: [{ ...told.client, id_token_signed_response_alg: alg }],
    jwks: { keys: [{ ...key, kid: `key-${number}`, use: 'sig', alg }] },
    cookies: { keys: ['a key for cookies'] },
    claims: { openid: ['sub'], profile: ['name', 'preferred_username'], groups: ['groups', 'realm_access', 'amr', 'acr'],
      auth_time: null, sid: null, iss: null },
    scopes: ['openid', 'groups'],
    conformIdTokenClaims: false,
    features: { devInteractions: { enabled: false }, backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true } },
    pkce: { required: () => true },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...person }) }),
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId })
      grant.addOIDCScope('openid profile groups')
      await grant.save()
      return grant
    },
    fetch: (url, { dispatcher, ...options }) => fetch(url, options), // else it calls nobody on this machine
    ttl: { Session: 3600, Grant: 3600, Interaction: 600, IdToken: 300, AccessToken: 300 },
  })
  provider.on('server_error', (_, error) => console.error(error))
  provider.on('backchannel.error', (_, error) => console.error(error))
  return provider
}

let provider = made('RS256')
const server = createServer({ key: readFileSync(told.key), cert: readFileSync(told.cert) }, async (req, res) => {
  if (!req.url.startsWith('/interaction/')) return provider.callback()(req, res)
  await provider.interactionFinished(req, res, { login: { accountId: person.sub, amr: person.amr, acr: person.acr } })
})
server.listen(told.port, '127.0.0.1', () => say({ up: true }))
for (;;) {
  const command = await line()
  if (command.claims) person = command.claims
  if (command.rotate) provider = made(command.rotate)
  say({ done: true })
}
