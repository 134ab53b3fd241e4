// npm oidc-provider, as its documentation sets it up for client credentials: everything in memory, JWT access tokens
// signed with ES256. Says its address when it listens.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [packages, port, secret] = process.argv.slice(2)
const found = createRequire(`${packages}/package.json`).resolve('oidc-provider')
const { default: Provider } = await import(pathToFileURL(found))
const { privateKey } = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify'])
const key = await crypto.subtle.exportKey('jwk', privateKey)

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'c0', client_secret: secret, grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
    token_endpoint_auth_method: 'client_secret_basic', id_token_signed_response_alg: 'ES256',
  }],
  jwks: { keys: [{ ...key, alg: 'ES256', use: 'sig' }] },
  enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'https://erp.test',
      getResourceServerInfo: () => ({ scope: 'read', audience: 'https://erp.test', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }),
    },
  },
})
provider.listen(Number(port), '127.0.0.1', () => console.log('listening'))
