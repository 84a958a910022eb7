import java.io.FileInputStream;
import java.net.URL;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.*;

/** Ask CA URL: exit 0 where the server's certificate is trusted by the CA alone. */
class Ask {
  public static void main(String[] args) throws Exception {
    KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
    trusted.load(null);
    try (FileInputStream ca = new FileInputStream(args[0])) {
      trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(ca));
    }
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(trusted);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    HttpsURLConnection asked = (HttpsURLConnection) new URL(args[1]).openConnection();
    asked.setSSLSocketFactory(context.getSocketFactory());
    asked.setConnectTimeout(5000);
    asked.setReadTimeout(5000);
    asked.getResponseCode();
  }
}
